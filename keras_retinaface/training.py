"""What stands around `model.fit`: schedule, optimizer, callbacks, and where weights start from."""

from __future__ import annotations

import math
import os
import pathlib

import keras
import tensorflow as tf
from absl import logging

from keras_retinaface import averaging, runtime, weights
from keras_retinaface import config as config_lib
from keras_retinaface.layers import backbone

# Where the warm-up starts, as a share of the peak: the paper's 1e-3 of 1e-2.
_WARMUP_START = 0.1
_STEP_FACTOR = 0.1
# Of the layers of a dense head.
_DENSE_PREFIX = "dense_"


@keras.saving.register_keras_serializable(package="keras_retinaface")
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from a tenth of its peak, then falls to a tenth at each milestone.

    Args:
        peak: highest rate.
        warmup_steps: steps until the peak; 0 starts there.
        milestones: steps after which the rate falls.
    """

    def __init__(self, peak: float, warmup_steps: int, milestones: tuple[int, ...]):
        super().__init__()
        self.peak, self.warmup_steps, self.milestones = peak, warmup_steps, tuple(milestones)

    def __call__(self, step):
        """Returns the rate of a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        rise = _WARMUP_START + (1.0 - _WARMUP_START) * step / max(self.warmup_steps, 1)
        rate = self.peak * tf.where(step < self.warmup_steps, rise, 1.0)
        for milestone in self.milestones:
            rate *= tf.where(step < milestone, 1.0, _STEP_FACTOR)
        return rate

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "milestones": self.milestones}


def make_optimizer(training: config_lib.Training, num_steps: int) -> keras.optimizers.Optimizer:
    """Builds SGD with momentum, decoupled weight decay on kernels only, and the schedule.

    Args:
        training: rates and shares of the run.
        num_steps: of the whole run.
    """
    schedule = WarmupSteps(
        training.learning_rate,
        round(training.warmup * num_steps),
        tuple(round(share * num_steps) for share in training.milestones),
    )
    optimizer = keras.optimizers.SGD(schedule, momentum=training.momentum, weight_decay=training.weight_decay or None)
    # Pulling a norm's scale or a bias to zero regularises nothing and costs accuracy.
    if training.weight_decay:
        # Offsets learn at a tenth of the rate, so a full pull would win over what they learn.
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias", "offset_kernel"])
    return optimizer


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
