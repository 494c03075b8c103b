"""Where weights start from, and which of them stay as they are."""

from __future__ import annotations

import pathlib

import keras
from absl import logging

from keras_retinaface import config as config_lib
from keras_retinaface.inference import model_file, runtime
from keras_retinaface.layers import backbone, layer_name
from keras_retinaface.weights import arrays, imports, shipped


def freeze(model: keras.Model, training: config_lib.Training) -> None:
    """Makes layers keep their weights, and batch norms use and keep their stored mean and variance.

    Args:
        model: a RetinaFace.
        training: which norms, how many stages of the backbone, or all but the dense head.
    """
    if training.frozen_stages:
        for layer in backbone.layers_up_to(model, f"C{training.frozen_stages}"):
            layer.trainable = False
    if training.use_frozen_detector:
        freeze_detector(model)
    norms = model.layers if training.use_frozen_norms else []
    if training.use_frozen_backbone_norms and not norms:
        norms = backbone.layers_up_to(model, "C5")
    for layer in norms:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def initialise(model: keras.Model, init: str) -> None:
    """Sets a model's weights from where a run should start; exact or error.

    Args:
        model: a RetinaFace.
        init: a preset with shipped weights, a workdir, a `.keras`, `.weights.h5` or `.npz` file, or empty for the
            random weights that the model has.

    Raises:
        ValueError: if there is nothing of that name or it does not fit.
    """
    if not init:
        return
    if init.endswith(".npz"):
        arrays.assign(model, _with_own_dense(model, arrays.read_npz(init)), init)
    elif init.endswith(".weights.h5"):
        if not pathlib.Path(init).is_file():
            raise ValueError(f"`init`: {init}: no such file")
        model_file.load_weights(model, init)
    elif init in shipped.PRESETS:
        # As `from_preset` does, without a second network.
        _check_geometry(model, config_lib.Config.preset(init), init)
        arrays.assign(model, _with_own_dense(model, shipped.read(init)), init)
    else:
        source = runtime.load_keras(init)
        _check_geometry(model, source.config, init)
        values = arrays.read(source)
        arrays.assign(model, _with_own_dense(model, values), init)
    logging.info("starting from %s", init)


def _check_geometry(model, source: config_lib.Config, init: str) -> None:
    """Makes sure that the numbers mean the same in both; their shapes alone do not tell."""
    for field in imports.GEOMETRY["network"]:
        theirs, own = (getattr(config.network, field) for config in (source, model.config))
        if theirs != own:
            raise ValueError(f"`init`: {init}: needs {field}={theirs!r}. Received: {field}={own!r}")


def _with_own_dense(model, values):
    """Lets a dense head start where it stands when the source has none at all."""
    dense = [layer.name for layer in model.layers if layer_name.part_of(layer.name) == layer_name.DENSE_HEAD]
    if any(name.split("/")[0] in dense for name in values):
        return values
    own = {name: value.numpy() for name, value in arrays.names(model).items() if name.split("/")[0] in dense}
    return {**values, **own}


def freeze_detector(model: keras.Model) -> None:
    """Lets nothing but the dense head learn.

    Args:
        model: a RetinaFace.

    Raises:
        ValueError: if it has no dense head.
    """
    if not model.config.network.dense:
        raise ValueError("`use_frozen_detector` needs a dense head: set `dense`")
    for layer in model.layers:
        layer.trainable = layer_name.part_of(layer.name) == layer_name.DENSE_HEAD
