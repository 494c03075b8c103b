r"""Scales the scores of each anchor size in an `.npz` of weights, so that faces of different sizes rank as they should.

    python -m tools.scale_scores --factors=1,1.08,1.24,1.32,1.43,1 --offsets=-0.8,-0.43,-0.05,0.2,-0.3,-0.3 \
        --output=scaled.npz mean.npz

A network gives every size of face scores on a scale of its own, and average precision ranks all faces together: where
doubtful small ones score as much as certain large ones, false alarms come before faces. Boxes, landmarks and the cost
stay as they are. Choose the numbers on images that the network was not trained on (tools/split_annotations.py).

Source: Platt scaling (Platt, 1999), one line for each anchor size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags

from keras_retinaface import config as config_lib
from keras_retinaface import program
from tools import command

_OUTPUT = flags.DEFINE_string("output", None, "The .npz to write.", required=True)
_FACTORS = flags.DEFINE_list(
    "factors", None, "One positive number for each anchor size, smallest first.", required=True
)
_OFFSETS = flags.DEFINE_list(
    "offsets", None, "What is added to each logit afterwards, in the same order.", required=True
)
_PRESET = flags.DEFINE_enum("preset", "mobilenet025", sorted(config_lib.PRESETS), "Network that the `.npz` is of.")


def scale(
    values: Mapping[str, np.ndarray], anchors: config_lib.Anchors, factors: Sequence[float], offsets: Sequence[float]
) -> dict[str, np.ndarray]:
    """Returns weights whose logit of a face is the former times a factor plus an offset, for each anchor size.

    Args:
        values: weights of a network whose levels have heads of their own, by name.
        anchors: its anchors.
        factors: positive numbers, one for each anchor size, from the finest level on.
        offsets: as many numbers.

    Raises:
        ValueError: if there are not as many numbers as anchor sizes, one is not finite or a factor not positive, or a
            level has no class head of its own.
    """
    count = sum(map(len, anchors.sizes))
    for name, numbers in (("factors", factors), ("offsets", offsets)):
        if len(numbers) != count or not np.all(np.isfinite(numbers)):
            raise ValueError(f"`{name}` must be {count} finite numbers, one an anchor size. Received: {list(numbers)}")
    if min(factors) <= 0:
        raise ValueError(f"`factors` must be positive. Received: {list(factors)}")
    result, start = dict(values), 0
    for level, sizes in zip(anchors.levels, anchors.sizes):
        head = f"class_P{level}"
        if f"{head}/kernel" not in values:
            raise ValueError(f"expected weights of a head {head} of the level's own")
        # Background and face of the first anchor size, then of the next.
        factor = np.repeat(factors[start : start + len(sizes)], 2)
        offset = np.outer(offsets[start : start + len(sizes)], (-0.5, 0.5)).ravel()
        result[f"{head}/kernel"] = (values[f"{head}/kernel"] * factor).astype(np.float32)
        result[f"{head}/bias"] = (values[f"{head}/bias"] * factor + offset).astype(np.float32)
        start += len(sizes)
    return result


def main(argv):
    """Scales and writes."""
    from keras_retinaface.weights import arrays

    if len(argv) != 2:
        raise app.UsageError("give one .npz of weights")
    factors, offsets = command.numbers(_FACTORS), command.numbers(_OFFSETS)
    anchors = config_lib.Config.preset(_PRESET.value).anchors
    return command.write(_OUTPUT.value, lambda: scale(arrays.read_npz(argv[1]), anchors, factors, offsets))


if __name__ == "__main__":
    program.run(main)
