"""The recipe's optimizers and schedules: SGD and Adam with rates and decay per weight. Does not average weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.layers import backbone, deform_conv
from keras_retinaface.network import replica
from keras_retinaface.weights import arrays

# Where the warm-up starts, as a share of the peak: the paper's 1e-3 of 1e-2.
_WARMUP_START = 0.1
_STEP_FACTOR = 0.1


def _warm(peak: float, warmup_steps: int, step: tf.Tensor) -> tf.Tensor:
    rise = _WARMUP_START + (1.0 - _WARMUP_START) * step / max(warmup_steps, 1)
    return peak * tf.where(step < warmup_steps, rise, 1.0)


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
        rate = _warm(self.peak, self.warmup_steps, step)
        for milestone in self.milestones:
            rate *= tf.where(step < milestone, 1.0, _STEP_FACTOR)
        return rate

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "milestones": self.milestones}


@keras.saving.register_keras_serializable(package="keras_retinaface")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from a tenth of its peak, then falls to 0 along half a cosine.

    Args:
        peak: highest rate.
        warmup_steps: steps until the peak; 0 starts there.
        num_steps: steps of the whole run.
    """

    def __init__(self, peak: float, warmup_steps: int, num_steps: int):
        super().__init__()
        self.peak, self.warmup_steps, self.num_steps = peak, warmup_steps, num_steps

    def __call__(self, step):
        """Returns the rate of a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        share = (step - self.warmup_steps) / max(self.num_steps - self.warmup_steps, 1)
        fall = 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(share, 0.0, 1.0)))
        return _warm(self.peak, self.warmup_steps, step) * fall

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "num_steps": self.num_steps}


class _Recipe:
    """What SGD and Adam have here beyond Keras's, the same on Keras 2 and 3.

    Args:
        decay: pull of kernels to zero; norms, biases and offsets of deformable convolutions have none.
        decay_mode: "l2" adds it to the gradient, "decoupled" takes it off the weight beside the step.
        clip_norm: largest norm of all gradients together, over all replicas; 0 is no limit.
        rates: factors of the learning rate, decay included, one per variable that learns, or none for 1.
        **kwargs: of Keras's optimizer.
    """

    def __init__(
        self,
        *,
        decay: float = 0.0,
        decay_mode: str = "l2",
        clip_norm: float = 0.0,
        rates: Sequence[float] = (),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.decay, self.decay_mode, self.clip_norm = decay, decay_mode, clip_norm
        self.rates = tuple(rates)

    def build(self, variables):
        """Creates the state and looks up how each variable learns.

        Raises:
            ValueError: if there are rates for another number of variables.
        """
        super().build(variables)
        if self.rates and len(self.rates) != len(variables):
            raise ValueError(
                f"`rates` must hold one for each of {len(variables)} variables. Received: {len(self.rates)} rates"
            )
        settings = {
            self._var_key(variable): (rate, self.decay if arrays.is_decayed(variable) else 0.0)
            for variable, rate in zip(variables, self.rates or [1.0] * len(variables))
        }
        # Behind a function: Keras would track a dict, and save what it finds there.
        self._settings = lambda: settings

    def update_step(self, gradient, variable, *learning_rate):
        """Updates one weight; Keras 3 hands in the rate."""
        rate, decay = self._settings()[self._var_key(variable)]
        before = tf.convert_to_tensor(variable)
        if decay and self.decay_mode == "l2":
            gradient += decay * before
        super().update_step(gradient, variable, *learning_rate)
        if decay and self.decay_mode == "decoupled":
            size = learning_rate[0] if learning_rate else self.learning_rate
            variable.assign_sub(before * decay * tf.cast(size, before.dtype))
        if rate != 1.0:
            # For any optimizer: Adam does not feel the size of a gradient.
            variable.assign(before + rate * (variable - before))

    def aggregate_gradients(self, grads_and_vars):
        """Clips what Keras 2 sums over replicas before the update."""
        pairs = list(super().aggregate_gradients(grads_and_vars))
        if not self.clip_norm:
            return pairs
        gradients, variables = zip(*pairs)
        return list(zip(tf.clip_by_global_norm(gradients, self.clip_norm)[0], variables))

    def apply(self, grads, trainable_variables=None):
        """Clips before Keras 3 sums over replicas, where the norm is that of the sum all the same."""
        if self.clip_norm:
            known = replica.total_of_strategy(
                {str(i): gradient for i, gradient in enumerate(grads) if gradient is not None}
            )
            factor = self.clip_norm / tf.maximum(tf.linalg.global_norm(list(known.values())), self.clip_norm)
            grads = [None if gradient is None else gradient * factor for gradient in grads]
        return super().apply(grads, trainable_variables)

    def get_config(self):
        """Returns the arguments of `__init__`."""
        own = {name: getattr(self, name) for name in ("decay", "decay_mode", "clip_norm")}
        return {**super().get_config(), **own, "rates": list(self.rates)}


@keras.saving.register_keras_serializable(package="keras_retinaface")
class SGD(_Recipe, keras.optimizers.SGD):
    """Keras's SGD with the arguments of `_Recipe`."""


@keras.saving.register_keras_serializable(package="keras_retinaface")
class Adam(_Recipe, keras.optimizers.Adam):
    """Keras's Adam with the arguments of `_Recipe`."""


def make_schedule(training: config_lib.Training, num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Builds the learning rate of a run of `num_steps`."""
    warmup_steps = round(training.warmup * num_steps)
    if training.schedule == "cosine":
        return WarmupCosine(training.learning_rate, warmup_steps, num_steps)
    milestones = tuple(round(share * num_steps) for share in training.milestones)
    return WarmupSteps(training.learning_rate, warmup_steps, milestones)


def make_optimizer(training: config_lib.Training, num_steps: int, model: keras.Model) -> keras.optimizers.Optimizer:
    """Builds SGD or Adam with decay of kernels only, rates per layer, clipping and the schedule.

    Args:
        training: rates and shares of the run.
        num_steps: steps of the whole run.
        model: the RetinaFace to train, with what is frozen frozen.
    """
    shared = {
        "learning_rate": make_schedule(training, num_steps),
        "decay": training.weight_decay,
        "decay_mode": training.decay_mode,
        "clip_norm": training.clip_norm,
        "rates": _rates(training, model),
    }
    if training.optimizer == "sgd":
        return SGD(momentum=training.momentum, **shared)
    return Adam(beta_1=training.momentum, beta_2=training.square_momentum, **shared)


def _rates(training: config_lib.Training, model: keras.Model) -> list[float]:
    """Returns the factors of all variables that learn; none when all are 1."""
    rates = {}
    if training.backbone_rate != 1.0:
        for layer in backbone.layers_up_to(model, "C5"):
            rates.update({id(variable): training.backbone_rate for variable in layer.trainable_variables})
    for layer in model.layers:
        # Under SGD the layer itself does it, on the gradient.
        if isinstance(layer, deform_conv.DeformableConv2D) and training.optimizer != "sgd":
            rates.update({id(variable): layer.offset_rate for variable in (layer.offset_kernel, layer.offset_bias)})
    return [rates.get(id(variable), 1.0) for variable in model.trainable_variables] if rates else []
