"""Shows what threads that share a detector gain: calls a second, over those of one thread.

    python -m benchmarks.threads --model=retinaface.tflite

Numbers of threads take turns, and the medians of the rounds are compared.
"""

from __future__ import annotations

import pathlib
import statistics
import time
from concurrent import futures

import cv2
from absl import app, flags

from keras_retinaface import program
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file

_MODEL = flags.DEFINE_string("model", "mobilenet025", "What `Detector` takes.")
_PHOTO = flags.DEFINE_string("photo", "examples/photos/solvay1927.jpg", "Photo, scaled to 640 x 480.")
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4", "8", "16"], "Numbers of threads, the first of which counts 1.")
_CALLS = flags.DEFINE_integer("calls", 24, "Calls of a round.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds for each number of threads.", lower_bound=1)


def rate(found_by: detector.Detector, image, num_threads: int) -> float:
    """Returns calls a second of threads that share a detector."""
    with futures.ThreadPoolExecutor(num_threads) as threads:
        list(threads.map(lambda _: found_by.detect(image), range(num_threads)))  # each starts, and takes its memory
        start = time.perf_counter()
        list(threads.map(lambda _: found_by.detect(image), range(_CALLS.value)))
        return _CALLS.value / (time.perf_counter() - start)


def main(argv):
    """Prints a table."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    image = cv2.resize(image_file.read(pathlib.Path(_PHOTO.value)), (640, 480), interpolation=cv2.INTER_AREA)
    found_by = detector.Detector(_MODEL.value, num_threads=1)
    rates: dict[int, list[float]] = {int(number): [] for number in _THREADS.value}
    for _ in range(_ROUNDS.value):
        for number, measured in rates.items():
            measured.append(rate(found_by, image, number))
    medians = {number: statistics.median(measured) for number, measured in rates.items()}
    print("| threads | calls a second | over the first |\n|---:|---:|---:|")
    for number, median in medians.items():
        print(f"| {number} | {median:.1f} | {median / next(iter(medians.values())):.2f} |")


if __name__ == "__main__":
    program.run(main)
