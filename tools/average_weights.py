"""Averages networks that were trained from the same start, norms folded, into one `.npz` of weights.

    python -m tools.average_weights --output=keras_retinaface/assets/mobilenet025.npz runs/first/best.keras runs/second
    python -m tools.average_weights --output=mean.npz --shares=1.2,1.2,1 first.npz second.npz mobilenet025_public

Each argument is a preset, a workdir, a .keras file or an `.npz` of weights. The average costs what one of them costs
and is often better than all of them.

Source: Model soups (Wortsman et al., 2022), the uniform one where no shares are given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import app, flags

from keras_retinaface import config as config_lib
from keras_retinaface import program
from tools import command, network_source

_OUTPUT = flags.DEFINE_string("output", None, "The .npz to write.", required=True)
_SHARES = flags.DEFINE_list(
    "shares", None, "How much each network counts, a positive number for each; equally without."
)
_PRESET = flags.DEFINE_enum(
    "preset", "mobilenet025", sorted(config_lib.PRESETS), "Network that `.npz` files hold the weights of."
)


def average(models: list, shares: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """Returns the mean of every weight, by name; folds the norms of the models given.

    Args:
        models: the networks.
        shares: how much each counts, any scale; None for equally.

    Raises:
        ValueError: if the networks differ, or the shares are not a positive number for each.
    """
    from keras_retinaface.weights import arrays, norms

    shares = [1.0] * len(models) if shares is None else list(shares)
    if len(shares) != len(models) or not all(0 < share < np.inf for share in shares):
        raise ValueError(f"`shares` must be {len(models)} positive numbers, one a network. Received: {shares}")
    expected = (models[0].config.network, models[0].config.anchors.sizes)
    for model in models:
        if (model.config.network, model.config.anchors.sizes) != expected:
            raise ValueError("networks and anchors to be averaged must be the same")
        norms.fold_norms(model)
    values = [arrays.read(model) for model in models]
    # In float64, so that the order of the networks does not matter.
    return {name: np.average([each[name].astype(np.float64) for each in values], 0, shares) for name in values[0]}


def main(argv):
    """Averages and writes."""
    if len(argv) < 3:
        raise app.UsageError("give two models or more")
    shares = command.numbers(_SHARES) if _SHARES.value else None

    def make():
        values = average([network_source.load(path, _PRESET.value) for path in argv[1:]], shares)
        return {name: value.astype(np.float32) for name, value in values.items()}

    return command.write(_OUTPUT.value, make)


if __name__ == "__main__":
    program.run(main)
