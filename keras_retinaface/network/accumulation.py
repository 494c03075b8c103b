"""A training step that takes its batch in parts, for batches whose activations do not fit in memory together."""

from __future__ import annotations

import keras
import tensorflow as tf


def train_step(model: keras.Model, images: tf.Tensor, targets: dict, num_parts: int) -> None:
    """Computes gradients part by part, one after the other, and updates the weights once with their sum.

    The loss divides by what the whole batch counts, so the sum is the gradient of the whole batch. Norms that are not
    frozen see one part at a time.

    Args:
        model: a compiled RetinaFace.
        images: `[B, H, W, 3]`; B must be a multiple of `num_parts`.
        targets: as of `RetinaFace.compute_loss`.
        num_parts: number of parts of equal size that the batch is cut into.
    """
    size = tf.shape(images)[0] // num_parts
    tf.debugging.assert_equal(
        size * num_parts, tf.shape(images)[0], message="`accumulate_steps` must divide the images of each replica"
    )
    objective, optimizer = model.objective, model.optimizer
    counts = objective.counts(targets, num_parts)
    variables = model.trainable_variables

    def take_part(part, sums):
        rows = slice(part * size, (part + 1) * size)
        inputs = images[rows]
        wanted = {name: value[rows] for name, value in targets.items()}
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = objective.share(inputs, wanted, outputs, counts, num_parts=num_parts, optimizer=optimizer)
            loss = _scale(optimizer, loss)
        gradients = tape.gradient(
            loss, [_tensor(variable) for variable in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return part + 1, [old + new for old, new in zip(sums, gradients)]

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
    # One at a time: parts that run together would need the memory of the whole.
    _, gradients = tf.while_loop(lambda part, _: part < num_parts, take_part, (0, zeros), parallel_iterations=1)
    if hasattr(optimizer, "get_unscaled_gradients"):
        gradients = optimizer.get_unscaled_gradients(gradients)
    optimizer.apply_gradients(zip(gradients, variables))


def _tensor(variable):
    return variable if isinstance(variable, tf.Variable) else variable.value  # Keras 3 wraps


def _scale(optimizer, loss):
    """Scales for mixed precision; Keras 2 has the first method, there on wrapped optimizers only, Keras 3 the other."""
    if hasattr(optimizer, "get_scaled_loss"):
        return optimizer.get_scaled_loss(loss)
    return optimizer.scale_loss(loss) if hasattr(optimizer, "scale_loss") else loss
