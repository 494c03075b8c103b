"""What stands around `model.fit`: callbacks, what is frozen, and where weights start from."""

from __future__ import annotations

import math
import os
import pathlib

import keras
from absl import logging

from keras_retinaface import averaging, runtime, weights
from keras_retinaface import config as config_lib
from keras_retinaface.layers import backbone

# Of the layers of a dense head.
_DENSE_PREFIX = "dense_"


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
        weights.assign(model, _with_own_dense(model, weights.read_npz(init)), init)
    elif init.endswith(".weights.h5"):
        if not pathlib.Path(init).is_file():
            raise ValueError(f"`init`: {init}: no such file")
        model.load_weights(init)
    else:
        source = runtime.load_keras(init)
        values = {name: variable.numpy() for name, variable in weights.names(source).items()}
        weights.assign(model, _with_own_dense(model, values), init)
    logging.info("starting from %s", init)


def _with_own_dense(model, values):
    """Lets a dense head start where it stands when the source has none at all."""
    if any(name.startswith(_DENSE_PREFIX) for name in values):
        return values
    own = {name: value.numpy() for name, value in weights.names(model).items() if name.startswith(_DENSE_PREFIX)}
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
        layer.trainable = layer.name.startswith(_DENSE_PREFIX)


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops training with an error that names the loss and the step as soon as one is not a finite number."""

    def on_train_batch_end(self, batch, logs=None):
        """Checks the running means."""
        broken = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if broken:
            step = int(self.model.optimizer.iterations.numpy())
            raise FloatingPointError(f"step {step}: {', '.join(broken)} is not finite; lower --learning_rate?")


class SaveModel(keras.callbacks.Callback):
    """Writes `model.keras` after every epoch; the file is whole at any moment.

    Args:
        workdir: folder of the run.
    """

    def __init__(self, workdir: str | os.PathLike):
        super().__init__()
        self._path = pathlib.Path(workdir) / "model.keras"

    def on_epoch_end(self, epoch, logs=None):
        """Saves beside the old file, then takes its place."""
        partial = self._path.with_name(".partial.keras")
        with averaging.averaged(self.model):
            self.model.save(partial)
        os.replace(partial, self._path)


def make_callbacks(workdir: str | os.PathLike) -> list[keras.callbacks.Callback]:
    """Builds the callbacks of a run: checkpoints, `model.keras`, `history.csv`, TensorBoard logs.

    Args:
        workdir: folder of the run; it exists.
    """
    workdir = pathlib.Path(workdir)
    (workdir / "checkpoints").mkdir(exist_ok=True)
    return [
        averaging.UpdateAverage(),
        StopOnNonFinite(),
        SaveModel(workdir),
        keras.callbacks.ModelCheckpoint(
            str(workdir / "checkpoints" / "epoch_{epoch:03d}.weights.h5"), save_weights_only=True
        ),
        keras.callbacks.CSVLogger(str(workdir / "history.csv"), append=False),
        keras.callbacks.TensorBoard(str(workdir / "logs"), write_graph=False),
    ]
