"""An exponential moving average of a model's weights, and the swap that puts it in the model. Does not save it."""

from __future__ import annotations

import contextlib

import keras
import tensorflow as tf

from keras_retinaface.weights import arrays


class WeightAverage:
    """The average of every weight of a model over the steps of a training, statistics of batch norms included.

    Not the average of Keras's optimizers: that one leaves out the statistics, starts differently on Keras 2 and 3, and
    takes the place of the weights when `fit` ends. It starts at the model's weights, and the decay rises to its value,
    `min(decay, (1 + steps) / (10 + steps))`, so that what they were is soon forgotten. A plain object, so that Keras
    does not take its variables for weights of the model; what saves a training saves `variables` beside the model's.

    Args:
        model: a keras.Model whose weights stand where training starts.
        decay: share of the old average that stays, in (0, 1).

    Attributes:
        variables: the averages, in the order of `arrays.names`, then the number of steps; tf.Variables.
    """

    def __init__(self, model: keras.Model, decay: float):
        self._decay = decay
        self._weights = list(arrays.names(model).values())
        with model.distribute_strategy.scope():
            self._averages = [
                tf.Variable(tf.convert_to_tensor(weight), trainable=False, name=f"average/{name}")
                for name, weight in arrays.names(model).items()
            ]
            self._steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="average/steps")
        self.variables = [*self._averages, self._steps]
        self._update = tf.function(self._take_step, autograph=False)
        self.is_in_model = False

    def update(self) -> None:
        """Takes in the weights after a step. Between replicas, where reading a batch norm's statistics averages them.

        Raises:
            RuntimeError: inside `averaged`, where the model does not hold its own weights.
        """
        if self.is_in_model:
            raise RuntimeError("the model holds its average: training inside `averaged` would mix the two")
        self._update()

    def _take_step(self):
        steps = tf.cast(self._steps, tf.float32)
        gain = 1.0 - tf.minimum(self._decay, (1.0 + steps) / (10.0 + steps))
        for average, weight in zip(self._averages, self._weights):
            average.assign_add((tf.convert_to_tensor(weight) - average) * tf.cast(gain, average.dtype))
        self._steps.assign_add(1)

    @contextlib.contextmanager
    def swapped(self):
        """Puts the averages into the model, and its own weights back to the last bit."""
        own = [tf.convert_to_tensor(weight).numpy() for weight in self._weights]
        for weight, average in zip(self._weights, self._averages):
            weight.assign(tf.convert_to_tensor(average))
        self.is_in_model = True
        try:
            yield
        finally:
            for weight, value in zip(self._weights, own):
                weight.assign(value)
            self.is_in_model = False


class UpdateAverage(keras.callbacks.Callback):
    """Updates `model.weight_average` after every step, and validates with it.

    The first of the callbacks, so that the others find the average up to date.
    """

    def __init__(self):
        super().__init__()
        self._validation = contextlib.ExitStack()

    def on_train_begin(self, logs=None):
        """Ends a validation that an interrupt has cut off."""
        self._validation.close()

    def on_train_batch_end(self, batch, logs=None):
        """Takes in the new weights."""
        if _of(self.model) is not None:
            _of(self.model).update()

    def on_test_begin(self, logs=None):
        """Puts the average in."""
        self._validation.enter_context(averaged(self.model))

    def on_test_end(self, logs=None):
        """Puts the weights back."""
        self._validation.close()


def attach(model: keras.Model, decay: float) -> WeightAverage | None:
    """Starts an average as `model.weight_average`.

    Args:
        model: a RetinaFace whose weights stand where training starts.
        decay: share of the old average that a step keeps, `config.Training.ema_decay`; 0 is no average.

    Returns:
        The average, or None without one.
    """
    model.weight_average = WeightAverage(model, decay) if decay else None
    return model.weight_average


@contextlib.contextmanager
def averaged(model: keras.Model):
    """Lets a model hold the average of its weights for validation and saving; does nothing for one without.

    Training on several workers, all of them enter together: reading the statistics of batch norms asks every worker.

    Args:
        model: one of `attach`, or any other.
    """
    average = _of(model)
    if average is None or average.is_in_model:
        yield
        return
    with average.swapped():
        yield


def _of(model) -> WeightAverage | None:
    return getattr(model, "weight_average", None)
