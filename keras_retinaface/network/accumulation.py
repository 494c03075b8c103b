"""A training step of our own: a batch in parts, where it does not fit in memory, and gradients of several workers."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_retinaface.network import replica


def train_step(model: keras.Model, images: tf.Tensor, targets: dict, num_parts: int) -> None:
    """Computes gradients, part by part if there are several, and updates the weights once with their sum.

    The loss divides by what the whole batch counts, so the sum is the gradient of the whole batch, that of all workers
    included. Norms that are not frozen see one part at a time.

    Args:
        model: a compiled RetinaFace.
        images: `[B, H, W, 3]`; B must be a multiple of `num_parts`.
        targets: as of `RetinaFace.compute_loss`.
        num_parts: number of parts of equal size that the batch is cut into.
    """
    if num_parts == 1:
        gradients = _gradients(model, images, lambda outputs: model.compute_loss(images, targets, outputs))
    else:
        gradients = _gradients_by_parts(model, images, targets, num_parts)
    # Still scaled, so that all workers agree on whether they are finite.
    gradients, optimizer = replica.total_of_workers(gradients), model.optimizer
    if hasattr(optimizer, "get_unscaled_gradients"):
        gradients = optimizer.get_unscaled_gradients(gradients)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    replica.equalise(_statistics(model))


def _gradients_by_parts(model, images, targets, num_parts: int) -> list[tf.Tensor]:
    size = tf.shape(images)[0] // num_parts
    tf.debugging.assert_equal(
        size * num_parts, tf.shape(images)[0], message="`accumulate_steps` must divide the images of each replica"
    )
    objective, optimizer = model.objective, model.optimizer
    counts = objective.counts(targets, num_parts)

    def take_part(part, sums):
        rows = slice(part * size, (part + 1) * size)
        inputs = images[rows]
        wanted = {name: value[rows] for name, value in targets.items()}

        def share(outputs):
            return objective.share(inputs, wanted, outputs, counts, num_parts=num_parts, optimizer=optimizer)

        return part + 1, [old + new for old, new in zip(sums, _gradients(model, inputs, share))]

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in model.trainable_variables]
    # One at a time: parts that run together would need the memory of the whole.
    return tf.while_loop(lambda part, _: part < num_parts, take_part, (0, zeros), parallel_iterations=1)[1]


def _gradients(model, images, loss_of) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        loss = _scale(model.optimizer, loss_of(model(images, training=True)))
    return tape.gradient(
        loss,
        [_tensor(variable) for variable in model.trainable_variables],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _statistics(model) -> list:
    """Returns the running means of norms that learn: what a step changes beside what gradients do."""
    learning = [layer for layer in model.layers if layer.trainable]
    return [variable for layer in learning for variable in layer.non_trainable_variables]


def _tensor(variable):
    return variable if isinstance(variable, tf.Variable) else variable.value  # Keras 3 wraps


def _scale(optimizer, loss):
    """Scales for mixed precision; Keras 2 has the first method, there on wrapped optimizers only, Keras 3 the other."""
    if hasattr(optimizer, "get_scaled_loss"):
        return optimizer.get_scaled_loss(loss)
    return optimizer.scale_loss(loss) if hasattr(optimizer, "scale_loss") else loss
