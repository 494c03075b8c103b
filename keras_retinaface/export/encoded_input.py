"""Decodes files in the graph, in front of the network, where a SavedModel takes them."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface import pixel_limit
from keras_retinaface.geometry import encoded_image

# Side in pixels of what stands for an image that cannot be read: the smallest that the network takes.
_BLANK_SIDE = 32


def decode_padded(image_bytes: tf.Tensor, max_pixels: int | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes JPEG or PNG files upright and pads them at right and bottom to one size.

    Args:
        image_bytes: string `[B]`.
        max_pixels: height times width of the largest file that is decoded, and of what all are padded to. None goes by
            the size of each file, as `pixel_limit.of_file`, and pads to as much as the largest of them may have.

    Returns:
        uint8 `[B, H, W, 3]` and bool `[B]`, which of them could not be read or are too large; those are one colour.
    """
    blank = tf.tile(tf.constant([[config_lib.PADDING]], tf.uint8), [_BLANK_SIDE, _BLANK_SIDE, 1])

    def decode_or_blank(content):
        # A graph has no other way to go on behind an op that fails than a dataset that leaves out what failed.
        found = tf.data.Dataset.from_tensors(content)
        found = found.map(lambda content: encoded_image.decode(content, max_pixels)).ignore_errors()
        image, is_broken = found.reduce((blank, True), lambda _, image: (image, False))
        return tf.RaggedTensor.from_tensor(image, ragged_rank=1), is_broken, tf.shape(image)[:2]

    spec = tf.RaggedTensorSpec([None, None, 3], tf.uint8, ragged_rank=1)
    images, is_broken, sizes = tf.map_fn(
        decode_or_blank,
        image_bytes,
        fn_output_signature=(spec, tf.TensorSpec([], tf.bool), tf.TensorSpec([2], tf.int32)),
    )
    most = pixel_limit.MAX_PIXELS if max_pixels is None else max_pixels
    # One very wide and one very high image are small, and padded to each other they are not.
    is_too_large = tf.reduce_prod(tf.cast(tf.reduce_max(sizes, axis=0), tf.int64)) > most
    is_long = tf.reduce_max(sizes, axis=1) > max(_BLANK_SIDE, math.isqrt(most))
    is_left_out = is_too_large & is_long
    padded = tf.cond(is_too_large, lambda: _pad_without(images, is_left_out), lambda: _pad(images))
    return padded, is_broken | is_left_out


def _pad(images: tf.RaggedTensor) -> tf.Tensor:
    return images.to_tensor(default_value=tf.constant(config_lib.PADDING, tf.uint8))


def _pad_without(images: tf.RaggedTensor, is_left_out: tf.Tensor) -> tf.Tensor:
    """Pads to the largest image that is not left out; the others are blank."""
    padded = _pad(tf.ragged.boolean_mask(images, ~is_left_out))
    missing = tf.maximum(_BLANK_SIDE - tf.shape(padded)[1:3], 0)
    paddings = tf.pad(tf.concat([[1], missing], axis=0)[:, None], [[0, 0], [1, 0]])  # [3, 2]
    # The row more is of one colour. Channels differ, so each is padded on its own.
    channels = [tf.pad(padded[..., c], paddings, constant_values=config_lib.PADDING[c]) for c in range(3)]
    padded = tf.stack(channels, axis=-1)
    rows = tf.where(is_left_out, tf.shape(padded)[0] - 1, tf.cumsum(tf.cast(~is_left_out, tf.int32)) - 1)
    return tf.gather(padded, rows)
