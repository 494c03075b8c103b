"""Decodes JPEG and PNG files upright in a graph, to the pixels of `image_file.read`; refuses other formats."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface import pixel_limit
from keras_retinaface.geometry import orientation as orientation_lib

_PNG = b"\x89PNG\r\n\x1a\n"
# Signature, length and name of the first chunk; then width, height, bits of a channel and colour type.
_PNG_HEADER, _PNG_GREY = 16, 0
# As other decoders; the faster one is not faster on processors with vector units.
DCT = "INTEGER_ACCURATE"


def read_header(image_bytes: tf.Tensor, max_pixels: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads size and orientation without decoding.

    Args:
        image_bytes: string scalar.
        max_pixels: height times width of the largest image that is let through; None goes by the size of the file, as
            `pixel_limit.of_file`.

    Returns:
        int32 `[2]`, (height, width) of the upright image, and its orientation, int32, as from `orientation.read`.

    Raises:
        tf.errors.InvalidArgumentError: if it is no JPEG or PNG, or too large.
    """
    is_jpeg = tf.io.is_jpeg(image_bytes)
    with tf.control_dependencies(_assert(is_jpeg | _is_png(image_bytes), "expected a JPEG or PNG file")):
        size = tf.cond(
            is_jpeg,
            lambda: tf.io.extract_jpeg_shape(image_bytes)[:2],
            lambda: _png_size(image_bytes),
        )
    num_pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    is_sound = (num_pixels <= _limit(image_bytes, max_pixels)) & tf.reduce_all(size > 0)
    with tf.control_dependencies(_assert(is_sound, "expected fewer pixels from a file of its size")):
        orientation = orientation_lib.read(image_bytes)
    return orientation_lib.turn_size(size, orientation), orientation


def decode(image_bytes: tf.Tensor, max_pixels: int | None = None) -> tf.Tensor:
    """Decodes an image; arguments and errors as for `read_header`, and an error for one that is damaged.

    Returns:
        uint8 `[H, W, 3]`, RGB, upright.
    """
    _, orientation = read_header(image_bytes, max_pixels)
    with tf.control_dependencies([orientation]):
        image = tf.cond(
            tf.io.is_jpeg(image_bytes),
            lambda: tf.io.decode_jpeg(image_bytes, channels=3, dct_method=DCT),
            lambda: _decode_png(image_bytes),
        )
    return orientation_lib.turn(image, orientation)


def decode_window(image_bytes: tf.Tensor, orientation: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Decodes a window of an image whose header was read, of an upright JPEG nothing but the window.

    Args:
        image_bytes: string scalar.
        orientation: int32, as from `read_header`.
        window: int32 `[4]`: top, left, height, width, pixels of the upright image, inside it.

    Returns:
        uint8 `[height, width, 3]`, RGB.
    """

    def sliced():
        top, left, height, width = tf.unstack(window)
        return decode(image_bytes)[top : top + height, left : left + width]

    return tf.cond(
        tf.io.is_jpeg(image_bytes) & (orientation == 1),
        lambda: tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=DCT),
        sliced,
    )


def _limit(image_bytes: tf.Tensor, max_pixels: int | None) -> tf.Tensor:
    if max_pixels is not None:
        return tf.cast(max_pixels, tf.int64)
    allowed = pixel_limit.PIXELS_PER_BYTE * tf.cast(tf.strings.length(image_bytes), tf.int64)
    return tf.clip_by_value(allowed, pixel_limit.SMALL_PIXELS, pixel_limit.MAX_PIXELS)


def _decode_png(image_bytes: tf.Tensor) -> tf.Tensor:
    depth, colour = tf.unstack(_bytes(image_bytes, _PNG_HEADER + 8, 2))

    def scaled():
        # The other decoder cuts the lower eight bits off.
        grey = tf.cast(tf.io.decode_png(image_bytes, channels=1, dtype=tf.uint16), tf.float32)
        return tf.repeat(tf.cast(grey / 257.0 + 0.5, tf.uint8), 3, axis=-1)

    return tf.cond((depth == 16) & (colour == _PNG_GREY), scaled, lambda: tf.io.decode_png(image_bytes, channels=3))


def _is_png(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(image_bytes, 0, len(_PNG)) == _PNG


def _png_size(image_bytes: tf.Tensor) -> tf.Tensor:
    digits = tf.reshape(_bytes(image_bytes, _PNG_HEADER, 8), [2, 4])
    # Wraps to a negative number past what PNG allows.
    return tf.reduce_sum(digits * [1 << 24, 1 << 16, 1 << 8, 1], axis=-1)[::-1]


def _bytes(image_bytes: tf.Tensor, position: int, count: int) -> tf.Tensor:
    """Returns int32 `[count]`; an error where the file ends before."""
    values = tf.io.decode_raw(tf.strings.substr(image_bytes, position, count), tf.uint8)
    return tf.ensure_shape(tf.cast(values, tf.int32), [count])


def _assert(condition: tf.Tensor, message: str) -> list:
    """Returns what must run first; nothing when there is no graph, because then it has run."""
    done = tf.debugging.Assert(condition, [message])
    return [] if done is None else [done]
