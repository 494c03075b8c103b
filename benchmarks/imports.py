"""Holds imported checkpoints against the outputs that the original packages' networks gave, on photos and odd sizes.

    python tests/testdata/make_imports.py --packages=FOLDER --yakhyo=CHECKOUT --checkpoints=/tmp/checkpoints
    python -m benchmarks.imports --checkpoints=/tmp/checkpoints

The first command needs torch and the packages, see there; the second this project alone. Prints the largest difference
of raw outputs over the largest output, a row for each checkpoint and image, and ends with 1 if one is over 1e-4.
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


def difference(model, found: imports.Checkpoint, image: np.ndarray, expected: dict) -> float:
    """Returns the largest difference of raw outputs over the largest output of its kind.

    Args:
        model: with the checkpoint's weights.
        found: the checkpoint.
        image: uint8 `[H, W, 3]`, RGB.
        expected: `scores` `[A]` (probabilities), `boxes` `[A, 4]`, `landmarks` `[A, 10]`, of all anchors or every n-th.
    """
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
    step = -(-len(logits) // len(next(iter(expected.values()))))
    return max(
        float(np.abs(ours[name][::step] - value).max() / np.abs(value).max()) for name, value in expected.items()
    )


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

    worst = 0.0
    for path in sorted(pathlib.Path(_CHECKPOINTS.value).glob("*.pth")):
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
                worst = max(worst, value)
                print(f"{path.stem:24} {image:24} {value:.2e}", flush=True)
    print(f"worst: {worst:.2e}, allowed: {_BOUND:.0e}")
    return int(worst > _BOUND)


if __name__ == "__main__":
    program.run(main)
