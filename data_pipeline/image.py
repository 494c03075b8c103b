"""Turns image files into upright pixels: only the window that is wanted, and padded where it leaves the image.

The pixels are those that `image_file.read` gives to detection, whatever the format. What cannot be read is told, not
raised, so that a training may go on without it. Python does this, because a graph cannot go on behind an op that
failed; on a `tf.data` server, where no Python of ours is, the graph reads JPEG and PNG itself and does raise.
"""

from __future__ import annotations

import contextlib
import contextvars
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import encoded_image, orientation
from keras_retinaface.media import image_file

# Of the channels' means; one grey, because padding each channel with its own took five times as long.
MEAN = round(sum(config_lib.PADDING) / 3)
# In place of an orientation: a file of which only Pillow makes the pixels that detection sees.
_BY_PILLOW = 0
_NO_FAULT = ""
_has_python = contextvars.ContextVar("has_python", default=True)


class Header(NamedTuple):
    """What is known of an encoded image before it is decoded.

    Attributes:
        size: int32 `[2]`, (height, width) of the upright image, pixels.
        orientation: int32, as `orientation.read` gives it, or 0.
        fault: string, what is wrong with the file; empty if nothing is.
    """

    size: tf.Tensor
    orientation: tf.Tensor
    fault: tf.Tensor


@contextlib.contextmanager
def without_python():
    """Makes graphs that other processes can run; they read JPEG and PNG only, and raise at what is damaged."""
    token = _has_python.set(False)
    try:
        yield
    finally:
        _has_python.reset(token)


def read_header(image_bytes: tf.Tensor) -> Header:
    """Reads the header of an encoded image."""
    if not _has_python.get():
        return Header(*encoded_image.read_header(image_bytes), tf.constant(_NO_FAULT))
    size, number, fault = tf.numpy_function(_read_header, [image_bytes], [tf.int32, tf.int32, tf.string])
    return Header(tf.ensure_shape(size, [2]), tf.ensure_shape(number, []), tf.ensure_shape(fault, []))


def size(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns the int32 `[2]` (height, width) of an upright image; zeros if it cannot be read."""
    return read_header(image_bytes).size


def decode(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes an image to uint8 `[H, W, 3]`, RGB; and what was wrong, empty if nothing was. See `decode_window`."""
    header = read_header(image_bytes)
    whole = tf.concat([[0, 0], tf.maximum(header.size, 1)], axis=0)
    return decode_window(image_bytes, header, whole)


def decode_window(image_bytes: tf.Tensor, header: Header, window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a window of an image, of a JPEG nothing but the window.

    Args:
        image_bytes: string scalar.
        header: as from `read_header`.
        window: int32 `[4]`: top, left, height, width, pixels of the upright image; may leave it, but not miss it.

    Returns:
        uint8 `[height, width, 3]`, RGB; `MEAN` outside the image, and everywhere if it cannot be read. Equals `crop` of
        the decoded image but for colours at the window's edge, which libjpeg mixes with fewer neighbours. And a string,
        what is wrong with the file; empty if nothing is.
    """
    inside, paddings = _split(header.size, window)
    if not _has_python.get():
        return _pad(encoded_image.decode_window(image_bytes, header.orientation, inside), paddings), header.fault

    def read():
        inputs = [image_bytes, header.orientation, header.size, inside]
        image, fault = tf.numpy_function(_read_window, inputs, [tf.uint8, tf.string])
        return tf.ensure_shape(image, [None, None, 3]), tf.ensure_shape(fault, [])

    def blank():
        return tf.fill(tf.stack([inside[2], inside[3], 3]), tf.constant(MEAN, tf.uint8)), header.fault

    image, fault = tf.cond(header.fault == _NO_FAULT, read, blank)
    return _pad(image, paddings), fault


def crop(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Cuts a window out of uint8 `[H, W, 3]`; see `decode_window`."""
    inside, paddings = _split(tf.shape(image)[:2], window)
    return _pad(_slice(image, inside), paddings)


def _read_header(content: bytes) -> tuple[np.ndarray, np.ndarray, str]:
    try:
        header = image_file.read_header(_bytes(content), "image")
    except image_file.ImageError as error:
        return np.zeros(2, np.int32), np.int32(_BY_PILLOW), _shorten(error)
    number = header.orientation if header.is_plain else _BY_PILLOW
    return np.array([header.height, header.width], np.int32), np.int32(number), _NO_FAULT


def _read_window(content: bytes, number: int, size: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, str]:
    content = _bytes(content)
    top, left, height, width = (int(value) for value in window)
    try:
        if number != _BY_PILLOW:
            try:
                return _read_jpeg(content, number, size, window), _NO_FAULT
            except tf.errors.OpError:
                pass  # Pillow reads some that TensorFlow does not, and so detection does
        image = image_file.decode(content, "image")[top : top + height, left : left + width]
    except image_file.ImageError as error:
        return np.full((height, width, 3), MEAN, np.uint8), _shorten(error)
    return image, _NO_FAULT


def _read_jpeg(content: bytes, number: int, size: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Decodes the window where it lies in the file, and turns it."""
    start, extent = np.array(window[:2]), np.array(window[2:])
    mirrored = [number in orientation.MIRRORED_Y, number in orientation.MIRRORED_X]
    start = np.where(mirrored, size - start - extent, start)
    if number >= orientation.FIRST_EXCHANGED:
        start, extent = start[::-1], extent[::-1]
    stored = np.concatenate([start, extent]).astype(np.int32)
    with tf.device("CPU:0"):
        image = tf.io.decode_and_crop_jpeg(content, stored, channels=3, dct_method=encoded_image.DCT).numpy()
    if number >= orientation.FIRST_EXCHANGED:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if mirrored[0] else 1, :: -1 if mirrored[1] else 1])


def _bytes(content: bytes | np.ndarray) -> bytes:
    # Outside of a graph a string arrives as an array without axes.
    return content if isinstance(content, bytes) else content.item()


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split(": ", 1)[-1].split())[:200]


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
