"""Hue, saturation and value as one linear map of RGB: tensorflow-addons where it exists, plain TensorFlow elsewhere."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

try:
    from tensorflow_addons.image import adjust_hsv_in_yiq as _addons_adjust
except ImportError:  # There is no build for TensorFlow above 2.15.
    _addons_adjust = None

HAS_ADDONS = _addons_adjust is not None

# NTSC primaries: luma, then the two chroma axes in whose plane hue is an angle.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def adjust_hsv(image: tf.Tensor, hue: tf.Tensor, saturation: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Turns hue and scales saturation and value.

    Args:
        image: float32 `[H, W, 3]`, RGB.
        hue: float32 scalar, radians.
        saturation: float32 scalar factor; 0 is grey.
        value: float32 scalar factor.

    Returns:
        float32 `[H, W, 3]`, not clipped.
    """
    if HAS_ADDONS:
        return _addons_adjust(image, hue, saturation, value)
    return adjust_hsv_plain(image, hue, saturation, value)


def adjust_hsv_plain(image: tf.Tensor, hue: tf.Tensor, saturation: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Computes `adjust_hsv` without tensorflow-addons."""
    cosine, sine = value * saturation * tf.cos(hue), value * saturation * tf.sin(hue)
    zero = tf.zeros_like(cosine)
    turn = tf.stack([[value, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]])
    matrix = _FROM_YIQ @ turn @ _TO_YIQ  # [3, 3]
    # Flat, because a product of rank three would be done row of pixels by row of pixels.
    changed = tf.matmul(tf.reshape(image, [-1, 3]), matrix, transpose_b=True)
    return tf.reshape(changed, tf.shape(image))
