"""Turns image files into pixels: only the window that is wanted, and padded where it leaves the image."""

from __future__ import annotations

import tensorflow as tf

# Of ImageNet over all channels; one grey, because padding each channel with its own took five times as long.
MEAN = 115
# As other decoders; the faster one is not faster on processors with vector units.
_DCT = "INTEGER_ACCURATE"


def size(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns the int32 `[2]` (height, width) of an encoded image; of a JPEG without decoding it."""
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.io.extract_jpeg_shape(image_bytes)[:2],
        lambda: tf.shape(_decode_other(image_bytes))[:2],
    )


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP or GIF (first frame) to uint8 `[H, W, 3]`, RGB."""
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.io.decode_jpeg(image_bytes, channels=3, dct_method=_DCT),
        lambda: _decode_other(image_bytes),
    )


def decode_window(image_bytes: tf.Tensor, image_size: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Decodes a window of an image, of a JPEG nothing but the window.

    Args:
        image_bytes: string scalar.
        image_size: int32 `[2]`, as from `size`.
        window: int32 `[4]`: top, left, height, width, pixels; may leave the image, but not miss it.

    Returns:
        uint8 `[height, width, 3]`, RGB; `MEAN` outside the image. Equals `crop` of the decoded image but for colours at
        the window's edge, which libjpeg mixes with fewer neighbours.
    """
    inside, paddings = _split(image_size, window)
    image = tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.io.decode_and_crop_jpeg(image_bytes, inside, channels=3, dct_method=_DCT),
        lambda: _slice(_decode_other(image_bytes), inside),
    )
    return _pad(image, paddings)


def crop(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Cuts a window out of uint8 `[H, W, 3]`; see `decode_window`."""
    inside, paddings = _split(tf.shape(image)[:2], window)
    return _pad(_slice(image, inside), paddings)


def _decode_other(image_bytes: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _split(image_size: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the part of a window inside the image, and the paddings `[3, 2]` that make it whole again."""
    low = tf.clip_by_value(window[:2], 0, image_size)
    high = tf.clip_by_value(window[:2] + window[2:], 0, image_size)
    paddings = tf.stack([low - window[:2], window[:2] + window[2:] - high], axis=-1)
    return tf.concat([low, high - low], axis=0), tf.pad(paddings, [[0, 1], [0, 0]])


def _slice(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]


def _pad(image: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
    needs_padding = tf.reduce_any(paddings > 0)
    return tf.cond(needs_padding, lambda: tf.pad(image, paddings, constant_values=MEAN), lambda: image)
