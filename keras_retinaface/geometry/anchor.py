"""Square anchors of a feature pyramid. Does not match them to faces: that is `matcher`."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def feature_size(image_size: tf.Tensor | tuple[int, int], stride: int) -> tf.Tensor:
    """Computes the size of a level's feature map.

    Args:
        image_size: int32 `[2]` or a pair, (height, width), pixels.
        stride: pixels between anchor centres of the level.

    Returns:
        int32 `[2]`, (rows, columns): the image over the stride, rounded up, as padded stride-2 convolutions give.
    """
    return (tf.convert_to_tensor(image_size, tf.int32) + stride - 1) // stride


def generate(
    image_size: tf.Tensor | tuple[int, int],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
) -> tf.Tensor:
    """Generates the anchors of all levels, in the order of the network's outputs.

    Args:
        image_size: int32 `[2]` or a pair, (height, width), pixels; may be known only when the graph runs.
        strides: pixels between anchor centres of each level.
        sizes: side lengths of the anchors on one location, one sequence per level, pixels.

    Returns:
        float32 `[A, 4]`, xyxy, pixels: level by level, row by row, column by column, size by size.
    """
    return tf.concat(
        [_generate_level(feature_size(image_size, s), s, level) for s, level in zip(strides, sizes)],
        axis=0,
    )


def at(
    rows: tf.Tensor,
    image_size: tf.Tensor | tuple[int, int],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
) -> tf.Tensor:
    """Works out some anchors from their places in what `generate` gives, without a table of all.

    Args:
        rows: int32 `[N]`, places.
        image_size: int32 `[2]` or a pair, (height, width), pixels.
        strides: pixels between anchor centres of each level.
        sizes: side lengths of the anchors on one location, equally many per level, pixels.

    Returns:
        float32 `[N, 4]`, xyxy, pixels.
    """
    count = len(sizes[0])
    features = tf.stack([feature_size(image_size, stride) for stride in strides])  # [levels, 2]
    ends = tf.cumsum(features[:, 0] * features[:, 1] * count)  # [levels]
    is_past = tf.cast(rows[:, None] >= ends[None, :-1], tf.int32)  # [N, levels - 1]
    level = tf.reduce_sum(is_past, axis=1)
    place = rows - tf.gather(tf.concat([[0], ends[:-1]], axis=0), level)
    cell = place // count
    columns = tf.gather(features[:, 1], level)
    position = tf.cast(tf.stack([cell % columns, cell // columns], axis=-1), tf.float32)  # [N, 2], x and y
    centre = (position + 0.5) * tf.gather(tf.constant(strides, tf.float32), level)[:, None]
    sides = tf.constant([side for of_level in sizes for side in of_level], tf.float32)
    half = 0.5 * tf.gather(sides, level * count + place % count)[:, None]  # [N, 1]
    return tf.concat([centre - half, centre + half], axis=-1)


def _generate_level(feature: tf.Tensor, stride: int, sizes: Sequence[float]) -> tf.Tensor:
    rows, columns = feature[0], feature[1]
    y = (tf.cast(tf.range(rows), tf.float32) + 0.5) * float(stride)
    x = (tf.cast(tf.range(columns), tf.float32) + 0.5) * float(stride)
    x, y = tf.meshgrid(x, y)
    centre = tf.stack([x, y], axis=-1)[:, :, None, :]  # [rows, columns, 1, 2]
    half = 0.5 * tf.constant(sizes, tf.float32)[:, None]  # [sizes, 1]
    return tf.reshape(tf.concat([centre - half, centre + half], axis=-1), [-1, 4])
