"""Feature maps of a stride that is no power of two, out of those of stride 4."""

from __future__ import annotations

import math

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_retinaface")
class Resample(keras.layers.Layer):
    """Resizes feature maps from one stride to another, bilinearly, so that both have their first pixel's corner at 0.

    Args:
        old_stride: of the input, pixels.
        new_stride: of the output, pixels.
        **kwargs: of every layer.

    Input: `[B, h, w, C]`. Output: `[B, H, W, C]`, the sides times `old_stride / new_stride`, rounded up.
    """

    def __init__(self, old_stride: int, new_stride: int, **kwargs):
        super().__init__(**kwargs)
        self.old_stride, self.new_stride = int(old_stride), int(new_stride)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Resizes."""
        divisor = math.gcd(self.old_stride, self.new_stride)
        old, new = self.new_stride // divisor, self.old_stride // divisor  # so many pixels become so many
        sides = [static or side for static, side in zip(x.shape[1:3], tf.unstack(tf.shape(x)[1:3]))]
        # The ratio is exact only where a side is whole groups of `old` pixels, so it is padded to that, and cut.
        missing = [-side % old for side in sides]
        if any(not isinstance(number, int) or number for number in missing):
            x = tf.pad(x, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
        size = [(side + number) // old * new for side, number in zip(sides, missing)]
        x = tf.raw_ops.ResizeBilinear(images=x, size=tf.stack(size), align_corners=False, half_pixel_centers=True)
        return x[:, : self._resized(sides[0]), : self._resized(sides[1])]

    def _resized(self, side):
        return -(-side * self.old_stride // self.new_stride)

    def compute_output_shape(self, input_shape):
        """Returns the new size, as far as the old one is known."""
        batch, *sides, channels = input_shape
        return (batch, *(None if side is None else self._resized(side) for side in sides), channels)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "old_stride": self.old_stride, "new_stride": self.new_stride}
