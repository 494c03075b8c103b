"""Images a second of `Detector.detect_batch` beside calls of `Detector.detect`, on photos of mixed sizes.

    python -m benchmarks.batch --model=retinaface.tflite [--images=examples/photos] [--count=200] [--rounds=3]

Rounds alternate; paths go in, faces come out, so files are read and decoded too. The faces must be the same.
"""

from __future__ import annotations

import itertools
import statistics
import time

import numpy as np
from absl import app, flags, logging

from keras_retinaface import program
from keras_retinaface.inference import detector
from keras_retinaface.media import image_find

_MODEL = flags.DEFINE_string("model", "mobilenet025", "Preset or file.")
_IMAGES = flags.DEFINE_string("images", "examples/photos", "Photos, taken again and again.")
_COUNT = flags.DEFINE_integer("count", 200, "Photos of a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of each.", 1)


def measure(found_by: detector.Detector, paths: list[str], rounds: int) -> dict[str, float]:
    """Returns the median images a second of each way.

    Raises:
        ValueError: if they do not find the same faces.
    """
    ways = {
        "detect": lambda: [found_by.detect(path) for path in paths],
        "detect_batch": lambda: found_by.detect_batch(paths),
    }
    found_by.detect(paths[0])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        found = []
        for name, way in ways.items():
            start = time.perf_counter()
            faces = way()
            rates[name].append(len(paths) / (time.perf_counter() - start))
            found.append(faces)
        for one, other in zip(*found):
            boxes = [np.array([face.box for face in faces]).reshape(-1, 4) for faces in (one, other)]
            if boxes[0].shape != boxes[1].shape or not np.allclose(*boxes, atol=0.1):
                raise ValueError("detect_batch found other faces than detect")
    return {name: statistics.median(values) for name, values in rates.items()}


def main(argv):
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    paths = list(itertools.islice(itertools.cycle(image_find.find(_IMAGES.value)), _COUNT.value))
    if not paths:
        raise app.UsageError(f"--images must name photos. Received: {_IMAGES.value!r}")
    try:
        rates = measure(detector.Detector(_MODEL.value), paths, _ROUNDS.value)
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 1
    print(f"{'':>12} {'images/s':>9} {'ratio':>6}")
    for name, rate in rates.items():
        print(f"{name:>12} {rate:>9.2f} {rate / rates['detect']:>6.2f}")
    return 0


if __name__ == "__main__":
    program.run(main)
