"""The first layer of every model, so that whoever calls a model hands it plain RGB."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_retinaface")
class SubtractMean(keras.layers.Layer):
    """Turns RGB 0..255 into what the backbones were trained on: each channel less its mean over ImageNet.

    Args:
        mean: what is taken away of red, green and blue, 0..255.
    """

    def __init__(self, mean: tuple[float, float, float], **kwargs):
        super().__init__(**kwargs)
        self.mean = tuple(float(value) for value in mean)

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """Subtracts the mean from `[B, H, W, 3]`."""
        image = tf.cast(image, self.compute_dtype)
        # Row by row: to repeat three numbers over an image costs TFLite three times what it costs to repeat a row.
        batch, height, width, channels = tf.unstack(tf.shape(image))
        row = tf.tile(tf.constant(self.mean, self.compute_dtype), [width])
        rows = tf.reshape(image, [batch, height, width * channels]) - row
        return tf.ensure_shape(tf.reshape(rows, tf.shape(image)), image.shape)

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "mean": self.mean}
