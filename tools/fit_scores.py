"""Finds the factors and offsets of `tools.scale_scores` that give a network the highest AP on annotated photos.

    python -m tools.fit_scores --images=WIDER_train/images --ground_truth=runs/split/ground_truth mean.npz

Each image is looked at once, at its own size. Then one number after another is moved as long as that raises the sum of
easy, medium and --hard_weight times hard AP, in ever smaller steps. What suppression keeps is taken to stay, so AP of
the scaled network differs by up to half a point. Take photos that the network was not trained on
(tools/split_annotations.py), and report on others. Prints AP before and after and the command that scales.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from absl import app, flags, logging

from keras_retinaface import config as config_lib
from keras_retinaface import program
from keras_retinaface.evaluation import runner, table, wider_face
from keras_retinaface.inference import merging
from keras_retinaface.media import image_file
from tools import network_source

_IMAGES = flags.DEFINE_string("images", None, "Folder of the images.", required=True)
_GROUND_TRUTH = flags.DEFINE_string("ground_truth", None, "Folder with the four files of WIDER FACE.", required=True)
_HARD_WEIGHT = flags.DEFINE_float("hard_weight", 2.0, "What hard AP counts, beside 1 of easy and of medium.", 0.0)
_PRESET = flags.DEFINE_enum("preset", "mobilenet025", sorted(config_lib.PRESETS), "Network that an `.npz` is of.")

# Logits under it are not looked at: a score of 0.015.
_LEAST_LOGIT, _MOST_BOXES, _IOU_THRESHOLD = -4.2, 1500, 0.4
# What an offset, and the logarithm of a factor, are moved by.
_STEPS = ((0.5, 0.15), (0.25, 0.08), (0.12, 0.04))
# A gain under this, in AP of 100, is none.
_LEAST_GAIN = 0.01
_MOST_MOVES = 4


def search(measure: Callable, count: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves one number after another as long as it helps.

    Args:
        measure: AP float `[3]` of factors `[count]` and offsets `[count]`.
        count: anchor sizes.
        weights: float `[3]`, what each AP counts.

    Returns:
        Factors, offsets, and what `measure` says of them.
    """
    # Row 0: logarithms of factors; row 1: offsets.
    numbers = np.zeros((2, count))
    best = measure(np.exp(numbers[0]), numbers[1])

    def walk(place: tuple[int, int], step: float) -> bool:
        nonlocal numbers, best
        has_moved = False
        for _ in range(_MOST_MOVES):
            moved = numbers.copy()
            moved[place] += step
            found = measure(np.exp(moved[0]), moved[1])
            if np.dot(found - best, weights) <= _LEAST_GAIN:
                break
            numbers, best, has_moved = moved, found, True
        return has_moved

    for offset_step, factor_step in _STEPS:
        for size in list(range(count)) * 2:
            for row, step in ((1, offset_step), (0, factor_step)):
                _ = walk((row, size), step) or walk((row, size), -step)
    return np.exp(numbers[0]), numbers[1], best


def gather(model, paths: list[str]) -> tuple[list[merging.Detections], np.ndarray]:
    """Looks at images.

    Args:
        model: a RetinaFace.
        paths: images.

    Returns:
        Detections of each, whose scores are logits, and the number of each one's anchor size, int64, all after another.
    """
    import tensorflow as tf
    from tqdm import tqdm

    from keras_retinaface.geometry import anchor, box

    settings = model.config.anchors
    of_levels = np.array([side for level in settings.sizes for side in level])

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3])], autograph=False)
    def run(image):
        outputs = model.without_dense_head()(image, training=False)
        logits = tf.linalg.matvec(outputs["scores"][0], tf.constant([-1.0, 1.0]))
        anchors = anchor.generate(tf.shape(image)[1:3], settings.strides, settings.sizes)
        likely = tf.where(logits > _LEAST_LOGIT)[:, 0]
        boxes = box.decode(tf.gather(outputs["box_deltas"][0], likely), tf.gather(anchors, likely), settings.variances)
        logits = tf.gather(logits, likely)
        kept = tf.image.non_max_suppression(boxes, logits, _MOST_BOXES, _IOU_THRESHOLD)
        sides = tf.gather(anchors, tf.gather(likely, kept))
        return tf.gather(boxes, kept), tf.gather(logits, kept), sides[:, 2] - sides[:, 0]

    found, sizes = [], []
    for path in tqdm(paths, unit="image", disable=None):
        image = image_file.read(path)
        boxes, logits, sides = (values.numpy() for values in run(image[None].astype(np.float32)))
        sizes.append(np.abs(sides[:, None] - of_levels).argmin(axis=1))
        found.append(merging.Detections(boxes.astype(np.float64), logits.astype(np.float64), None))
    return found, np.concatenate(sizes)


def main(argv):
    """Looks, searches and prints."""
    if len(argv) != 2 or not argv[1].endswith(".npz"):
        raise app.UsageError("give one .npz of weights")
    try:
        model = network_source.load(argv[1], _PRESET.value)
        if model.config.network.use_shared_heads:
            raise ValueError("expected a network with a class head for each level. Received: one head for all levels")
        truth = wider_face.load_ground_truth(_GROUND_TRUTH.value)
        paths = runner.find_images(_IMAGES.value, [f"{name}.jpg" for name in truth.names], is_partial=True)
        truth = truth.select([os.path.splitext(path)[0] for path in paths])
        found, sizes = gather(model, [os.path.join(_IMAGES.value, path) for path in paths])
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 1
    logits = np.concatenate([faces.scores for faces in found])
    rows = table.stack(dict(zip(truth.names, found)), truth.names)

    def measure(factors, offsets):
        scores = 1.0 / (1.0 + np.exp(-(logits * factors[sizes] + offsets[sizes])))
        scaled = table.Table(rows.names, rows.offsets, merging.Detections(rows.rows.boxes, scores, None))
        report = wider_face.evaluate(scaled, truth)
        # A subset without faces has none, and decides nothing.
        return 100 * np.nan_to_num([report[subset] for subset in wider_face.SUBSETS])

    count = sum(map(len, model.config.anchors.sizes))
    before = measure(np.ones(count), np.zeros(count))
    factors, offsets, after = search(measure, count, np.array([1.0, 1.0, _HARD_WEIGHT.value]))
    for label, values in (("before", before), ("after", after)):
        print(label, " / ".join(f"{value:.2f}" for value in values), f"of {len(truth.names)} images")
    texts = (",".join(f"{number:.2f}".rstrip("0").rstrip(".") for number in numbers) for numbers in (factors, offsets))
    numbers = "--factors={} --offsets={}".format(*texts)
    print(f"python -m tools.scale_scores --preset={_PRESET.value} {numbers} --output=scaled.npz {argv[1]}")
    return 0


if __name__ == "__main__":
    program.run(main)
