"""Networks that tools are given by name: a preset, a workdir, a .keras file or an `.npz` of weights."""

from __future__ import annotations

import pathlib

from keras_retinaface import config as config_lib


def load(source: str, preset: str):
    """Loads a network.

    Args:
        source: a preset, a workdir, a .keras file or an `.npz` of weights.
        preset: whose network an `.npz` is of.

    Raises:
        ValueError: if it is none of these, cannot be read or does not fit.
    """
    from keras_retinaface.inference import runtime
    from keras_retinaface.network import model as model_lib
    from keras_retinaface.weights import arrays

    if pathlib.Path(source).suffix != ".npz":
        return runtime.load_keras(source)
    model = model_lib.RetinaFace(config_lib.Config.preset(preset))
    arrays.load(model, source)
    return model
