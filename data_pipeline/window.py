"""Chooses which part of a photo a training sample shows; cutting it out is `augment`'s work."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_retinaface import config as config_lib

# Of half a crop: how far from a face's centre the crop's may lie, and how much of it must lie in the image each way.
_NEAR_FACE = 0.8
_INSIDE = 0.75


def choose(
    boxes: tf.Tensor,
    is_ignored: tf.Tensor,
    image_size: tf.Tensor,
    config: config_lib.Augmentation,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Chooses a crop that holds a face, without trying crops until one does.

    A face is drawn first, then a scale at which it fits, then a place from all those that hold it whole, so the crop is
    one that a search by trial would have kept for that face. A face larger than any crop keeps its centre inside.

    Args:
        boxes: float32 `[N, 4]`, xyxy, pixels.
        is_ignored: bool `[N]`; such faces are not drawn.
        image_size: int32 `[2]`, (height, width), pixels.
        config: whose aspect of `image_size` the crop has, square in the paper.
        seed: int32 `[2]`.

    Returns:
        int32 `[4]`: top, left, height, width, pixels. It leaves the image only when zooming out or with
        `crop_pixels`.
    """
    draw = tf.unstack(tf.random.stateless_uniform([6], seed))
    size = tf.cast(image_size, tf.float32)
    wanted = tf.constant(config.image_size, tf.float32)
    is_in_pixels = config.crop_pixels[1] > 0
    # Scales are of the largest window of this aspect inside the image, or pixels of the window's short edge.
    unit = wanted / min(config.image_size) if is_in_pixels else tf.reduce_min(size / wanted) * wanted

    low, high = size * 0.0, size  # where the face's box starts and ends, (y, x)
    is_usable = tf.logical_not(is_ignored)
    has_face = tf.reduce_any(is_usable) & (draw[0] >= config.background_probability)
    usable = tf.boolean_mask(boxes, is_usable)
    row = tf.cast(draw[1] * tf.cast(tf.shape(usable)[0], tf.float32), tf.int32)
    face = tf.reshape(tf.pad(usable, [[0, 1], [0, 0]])[row], [2, 2])[:, ::-1]  # [[y1, x1], [y2, x2]]
    face = tf.clip_by_value(face, 0.0, size)

    is_out = draw[2] < config.zoom_out_probability
    scales = tf.where(is_out, config.zoom_out_scale, config.crop_scale)
    smallest, largest = tf.unstack(tf.constant(config.crop_pixels) if is_in_pixels else scales)
    needed = tf.where(has_face, tf.reduce_max((face[1] - face[0]) / unit), 0.0)
    smallest = tf.clip_by_value(needed, smallest, largest)
    extent = tf.maximum(tf.round((smallest + draw[3] * (largest - smallest)) * unit), 1.0)

    # Inside the image, or with the image inside.
    low, high = tf.minimum(size - extent, 0.0), tf.maximum(size - extent, 0.0)
    centre = 0.5 * (face[0] + face[1])
    fits = face[1] - face[0] <= extent
    # Whole pixels, because the start is rounded, and a centre just outside would cost the face.
    face_low = tf.where(fits, face[1], tf.math.ceil(centre)) - extent
    face_high = tf.where(fits, face[0], tf.floor(centre))
    low = tf.where(has_face, tf.clip_by_value(face_low, low, high), low)
    high = tf.where(has_face, tf.clip_by_value(face_high, low, high), high)
    start = tf.floor(low + tf.stack(draw[4:]) * (high - low) + 0.5)
    return tf.cast(tf.concat([start, extent], axis=0), tf.int32)


def choose_native(
    boxes: tf.Tensor,
    is_ignored: tf.Tensor,
    image_size: tf.Tensor,
    config: config_lib.Augmentation,
    *,
    crop_size: tuple[int, int],
    seed: tf.Tensor,
) -> tf.Tensor:
    """Chooses a crop whose scale is drawn over that of the image as it is, evenly by factor, from `native_scale`.

    Most crops have the centre of a face in them, drawn from all alike; the others lie anywhere.

    Args:
        boxes: float32 `[N, 4]`, xyxy, pixels.
        is_ignored: bool `[N]`; such faces are not drawn.
        image_size: int32 `[2]`, (height, width), pixels.
        config: the scales, and how many crops lie anywhere.
        crop_size: (height, width) that the crop is resized to, pixels.
        seed: int32 `[2]`.

    Returns:
        int32 `[4]`: top, left, height, width, pixels; an image smaller than three quarters of it lies in its middle.
    """
    draw = tf.unstack(tf.random.stateless_uniform([7], seed))
    size = tf.cast(image_size, tf.float32)
    low, high = (math.log(scale) for scale in config.native_scale)
    extent = tf.maximum(tf.round(tf.constant(crop_size, tf.float32) / tf.exp(low + draw[0] * (high - low))), 1.0)
    usable = tf.boolean_mask(boxes, tf.logical_not(is_ignored))
    num_faces = tf.shape(usable)[0]
    is_near = (num_faces > 0) & (draw[1] >= config.background_probability)
    row = tf.cast(draw[2] * tf.cast(num_faces, tf.float32), tf.int32)
    face = tf.reshape(tf.pad(usable, [[0, 1], [0, 0]])[row], [2, 2])[:, ::-1]  # [[y1, x1], [y2, x2]]
    near = tf.reduce_mean(face, axis=0) + (2.0 * tf.stack(draw[3:5]) - 1.0) * _NEAR_FACE * 0.5 * extent
    centre = tf.where(is_near, near, tf.stack(draw[5:]) * size)
    margin = tf.minimum(_INSIDE * 0.5 * extent, 0.5 * size)
    centre = tf.clip_by_value(centre, margin, size - margin)
    return tf.cast(tf.concat([tf.floor(centre - 0.5 * extent + 0.5), extent], axis=0), tf.int32)
