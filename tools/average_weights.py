"""Averages networks that were trained from the same start, norms folded, into one `.npz` of weights.

    python -m tools.average_weights --output=keras_retinaface/assets/mobilenet025.npz runs/first/best.keras runs/second

Each argument is a preset, a workdir or a .keras file. The average costs what one of them costs and is often better than
all of them.

Source: Model soups (Wortsman et al., 2022), the uniform one.
"""

from __future__ import annotations

import numpy as np
from absl import app, flags, logging

_OUTPUT = flags.DEFINE_string("output", None, "The .npz to write.", required=True)


def average(models: list) -> dict[str, np.ndarray]:
    """Returns the mean of every weight, by name; folds the norms of the models given.

    Raises:
        ValueError: if the networks differ.
    """
    from keras_retinaface.weights import arrays, norms

    expected = (models[0].config.network, models[0].config.anchors.sizes)
    for model in models:
        if (model.config.network, model.config.anchors.sizes) != expected:
            raise ValueError("networks and anchors to be averaged must be the same")
        norms.fold_norms(model)
    values = [arrays.read(model) for model in models]
    return {name: np.mean([each[name] for each in values], axis=0, dtype=np.float64) for name in values[0]}


def main(argv):
    """Averages and writes."""
    from keras_retinaface.inference import runtime
    from keras_retinaface.weights import arrays

    if len(argv) < 3:
        raise app.UsageError("give two models or more")
    values = average([runtime.load_keras(path) for path in argv[1:]])
    arrays.write_npz(_OUTPUT.value, {name: value.astype(np.float32) for name, value in values.items()})
    logging.info("wrote %s, the mean of %d networks", _OUTPUT.value, len(argv) - 1)


if __name__ == "__main__":
    app.run(main)
