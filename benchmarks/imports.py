"""Holds imported checkpoints against the outputs that the original packages' networks gave, on photos and odd sizes.

    python tests/testdata/make_imports.py --packages=FOLDER --yakhyo=CHECKOUT --checkpoints=/tmp/checkpoints
    python tests/testdata/make_imports_peteryux.py --checkout=CLONE --checkpoints=/tmp/checkpoints
    python -m benchmarks.imports --checkpoints=/tmp/checkpoints

The first two need torch, the packages and a clone, see there; the last this project alone. Prints, a row for each
checkpoint and image, the largest difference of raw outputs over the largest output, and how many faces suppression
leaves of theirs and of ours, of the best anchors by theirs. Ends with 1 if a difference is over 1e-4 or a face another.
"""

from __future__ import annotations

import pathlib
import re

import numpy as np
from absl import app, flags

from keras_retinaface import program
from keras_retinaface.weights import arrays, imports

_CHECKPOINTS = flags.DEFINE_string("checkpoints", None, "Folder of NAME.pth and NAME.npz.", required=True)
_ONLY = flags.DEFINE_string("only", ".*", "Pattern of the names to compare.")
_BOUND = 1e-4
# insightface's anchors stand 8 pixels from the corner on every level, ours half a stride; biases make up for it.
_SHIFTED = {"serengil": 8.0}
_IOU_THRESHOLD = 0.4
_CANDIDATES = (200, 400)  # anchors that enter suppression, at least and at most


def difference(model, found: imports.Checkpoint, image: np.ndarray, expected: dict) -> float:
    """Returns the largest difference of raw outputs over the largest output of its kind.

    Args:
        model: with the checkpoint's weights.
        found: the checkpoint.
        image: uint8 `[H, W, 3]`, RGB.
        expected: `scores` `[A]` (probabilities), `boxes` `[A, 4]`, `landmarks` `[A, 10]`, of all anchors or every n-th.
    """
    ours = _outputs(model, found, image)
    step = -(-len(ours["scores"]) // len(next(iter(expected.values()))))
    return max(
        float(np.abs(ours[name][::step] - value).max() / np.abs(value).max()) for name, value in expected.items()
    )


def same_faces(model, found: imports.Checkpoint, image: np.ndarray, expected: dict) -> tuple[int, bool]:
    """Suppresses what both networks say of the same anchors, by one rule.

    Drawn weights move boxes by hundreds of their sizes; on both sides they are scaled to one size at most.

    Args:
        model: with the checkpoint's weights.
        found: the checkpoint.
        image: uint8 `[H, W, 3]`, RGB.
        expected: outputs of all anchors, see `difference`.

    Returns:
        How many faces are left of theirs, and whether ours are of the same anchors.
    """
    ours, anchors = _outputs(model, found, image), found.config.anchors
    scale = 1 / max(1.0, float(np.abs(expected["boxes"]).max()))
    first = _SHIFTED.get(found.project)
    centres, sides = _anchors(image.shape, anchors, first)
    best = np.sort(expected["scores"])[::-1]
    least, most = (min(count, len(best) - 1) for count in _CANDIDATES)
    # Where the scores leave most room, so that rounding takes no anchor in or out.
    place = least + int(np.argmax(best[least:most] - best[least + 1 : most + 1]))
    threshold = (best[place] + best[place + 1]) / 2
    kept = []
    for outputs in (expected, ours):
        rows = np.flatnonzero(outputs["scores"] > threshold)
        deltas = scale * outputs["boxes"][rows]
        middle = centres[rows] + anchors.variances[0] * deltas[:, :2] * sides[rows]
        half = np.exp(anchors.variances[1] * deltas[:, 2:]) * sides[rows] / 2
        kept.append(rows[_suppress(np.concatenate([middle - half, middle + half], axis=1), outputs["scores"][rows])])
    return len(kept[0]), set(kept[0]) == set(kept[1])


def _suppress(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Returns the rows that greedy suppression leaves; of scores that only rounding tells apart the first is better."""
    order, kept = np.argsort(-np.round(scores, 4), kind="stable"), []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    while len(order):
        first, order = order[0], order[1:]
        kept.append(int(first))
        low, high = np.maximum(boxes[first, :2], boxes[order, :2]), np.minimum(boxes[first, 2:], boxes[order, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        order = order[shared <= _IOU_THRESHOLD * (areas[first] + areas[order] - shared)]
    return kept


def _outputs(model, found: imports.Checkpoint, image: np.ndarray) -> dict[str, np.ndarray]:
    """Runs ours, as theirs: `scores` `[A]`, `boxes` `[A, 4]` and `landmarks` `[A, 10]` from their anchors."""
    outputs = {name: np.asarray(value)[0] for name, value in model(image[None], training=False).items()}
    logits = outputs["scores"]
    ours = {
        "scores": 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])),
        "boxes": outputs["box_deltas"],
        "landmarks": outputs["landmark_deltas"].reshape(-1, 10),
    }
    if found.project in _SHIFTED:
        shift = _shift(image.shape, found.config.anchors, _SHIFTED[found.project])[:, None]
        ours["boxes"] = np.concatenate([ours["boxes"][:, :2] - shift, ours["boxes"][:, 2:]], axis=1)
        ours["landmarks"] = ours["landmarks"] - shift
    return ours


def _anchors(shape, anchors, first_centre: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns centres `[A, 2]`, (x, y), and sides `[A, 1]` of theirs, in pixels."""
    centres, sides = [], []
    for stride, sizes in zip(anchors.strides, anchors.sizes):
        first = stride / 2 if first_centre is None else first_centre
        rows, columns = (-(-side // stride) for side in shape[:2])
        x, y = np.meshgrid(np.arange(columns) * stride + first, np.arange(rows) * stride + first)
        centres.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), len(sizes), axis=0))
        sides.append(np.tile(np.array(sizes), rows * columns)[:, None])
    return np.concatenate(centres), np.concatenate(sides)


def _shift(shape, anchors, first_centre: float) -> np.ndarray:
    """Returns how far, over its size, every anchor of theirs stands from ours."""
    rows = []
    for stride, sizes in zip(anchors.strides, anchors.sizes):
        cells = -(-shape[0] // stride) * -(-shape[1] // stride)
        rows.append(np.tile((first_centre - stride / 2) / np.array(sizes), cells))
    return np.concatenate(rows)


def main(argv):
    """Compares and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    from keras_retinaface.network import model as model_lib

    worst, is_same = 0.0, True
    folder = pathlib.Path(_CHECKPOINTS.value)
    for path in sorted([*folder.glob("*.pth"), *(file.parent for file in folder.glob("*/*.index"))]):
        if not re.search(_ONLY.value, path.stem):
            continue
        # Drawn weights know nothing of the images they were trained on.
        found = imports.read(path, path.stem.split("_")[0])
        model = model_lib.RetinaFace(found.config)
        arrays.assign(model, found.values, str(path))
        with np.load(path.with_suffix(".npz")) as stored:
            for image in dict.fromkeys(name.split("/")[0] for name in stored):
                expected = {name: stored[f"{image}/{name}"] for name in ("scores", "boxes", "landmarks")}
                value = difference(model, found, stored[f"{image}/image"], expected)
                count, are_same = same_faces(model, found, stored[f"{image}/image"], expected)
                worst, is_same = max(worst, value), is_same and are_same
                print(f"{path.stem:24} {image:24} {value:.2e} {count:4} {'same' if are_same else 'other'}", flush=True)
    print(f"worst: {worst:.2e}, allowed: {_BOUND:.0e}; faces: {'same' if is_same else 'other'}")
    return int(worst > _BOUND or not is_same)


if __name__ == "__main__":
    program.run(main)
