"""Operations on boxes: xyxy, pixels, float32, any leading axes."""

from __future__ import annotations

import math

import tensorflow as tf


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Computes areas; a box whose width or height is negative has none.

    Args:
        boxes: float32 `[..., 4]`, xyxy, pixels.

    Returns:
        float32 `[...]`, square pixels.
    """
    size = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return size[..., 0] * size[..., 1]


def shared(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Computes the area that boxes share with others, broadcast.

    Args:
        boxes: float32 `[..., 4]`, xyxy, pixels.
        others: float32 `[..., 4]`, as `boxes`.

    Returns:
        float32 `[...]`, square pixels.
    """
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    left, top, right, bottom = tf.unstack(others, axis=-1)
    width = tf.maximum(tf.minimum(x2, right) - tf.maximum(x1, left), 0.0)
    return width * tf.maximum(tf.minimum(y2, bottom) - tf.maximum(y1, top), 0.0)


def iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Computes intersection over union of every pair.

    Args:
        boxes: float32 `[..., N, 4]`, xyxy, pixels.
        others: float32 `[..., M, 4]`, xyxy, pixels.

    Returns:
        float32 `[..., N, M]` in [0, 1]; 0 where either box is empty.
    """
    # Not by `shared`: an export must do without minimum and maximum. Those want one scale for what they compare, and
    # TFLite's quantiser gives it to them even where it is told to leave all in float32; boxes would lie on a grid of
    # 256 places.
    x1, y1, x2, y2 = (boxes[..., side : side + 1] for side in range(4))  # [..., N, 1]
    others = tf.linalg.matrix_transpose(others)
    left, top, right, bottom = (others[..., side : side + 1, :] for side in range(4))  # [..., 1, M]
    width = tf.nn.relu(x2 - tf.nn.relu(x2 - right) - left - tf.nn.relu(x1 - left))  # [..., N, M]
    height = tf.nn.relu(y2 - tf.nn.relu(y2 - bottom) - top - tf.nn.relu(y1 - top))
    intersection = width * height
    areas = tf.nn.relu(x2 - x1) * tf.nn.relu(y2 - y1)
    other_areas = tf.nn.relu(right - left) * tf.nn.relu(bottom - top)
    union = areas + other_areas - intersection
    return tf.math.divide_no_nan(intersection, union)


def generalized_iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Computes overlap less the share of the enclosing box that neither covers, box by box.

    Args:
        boxes: float32 `[..., 4]`, xyxy, pixels. Width and height must be positive.
        others: float32 `[..., 4]`, as `boxes`.

    Returns:
        float32 `[...]` in (-1, 1].

    Source: Generalized Intersection over Union (Rezatofighi et al., 2019).
    """
    overlap, union = _paired_iou(boxes, others)
    enclosing = _enclosing_size(boxes, others)
    enclosing = enclosing[..., 0] * enclosing[..., 1]
    return overlap - (enclosing - union) / enclosing


def complete_iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Computes overlap less a distance of centres and a difference of shapes, box by box.

    The weight of the shapes has no gradient, as in the source.

    Args:
        boxes: float32 `[..., 4]`, xyxy, pixels. Width and height must be positive.
        others: float32 `[..., 4]`, as `boxes`.

    Returns:
        float32 `[...]`, at most 1.

    Source: Distance-IoU Loss (Zheng et al., 2020).
    """
    overlap, _ = _paired_iou(boxes, others)
    boxes, others, enclosing = to_cxcywh(boxes), to_cxcywh(others), _enclosing_size(boxes, others)
    distance = tf.reduce_sum(tf.square(boxes[..., :2] - others[..., :2]), axis=-1)
    distance /= tf.reduce_sum(tf.square(enclosing), axis=-1)
    angles = [tf.math.atan2(size[..., 2], size[..., 3]) for size in (boxes, others)]
    shape = tf.square(2.0 / math.pi * (angles[0] - angles[1]))
    weight = tf.stop_gradient(tf.math.divide_no_nan(shape, 1.0 - overlap + shape))
    return overlap - distance - weight * shape


def efficient_iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Computes overlap less a distance of centres and differences of widths and of heights, box by box.

    Args:
        boxes: float32 `[..., 4]`, xyxy, pixels. Width and height must be positive.
        others: float32 `[..., 4]`, as `boxes`.

    Returns:
        float32 `[...]`, at most 1.

    Source: Focal and Efficient IOU Loss (Zhang et al., 2021), equation 6.
    """
    overlap, _ = _paired_iou(boxes, others)
    boxes, others, enclosing = to_cxcywh(boxes), to_cxcywh(others), _enclosing_size(boxes, others)
    enclosing = tf.square(enclosing)
    difference = tf.square(boxes - others)
    distance = tf.reduce_sum(difference[..., :2], axis=-1) / tf.reduce_sum(enclosing, axis=-1)
    return overlap - distance - tf.reduce_sum(difference[..., 2:] / enclosing, axis=-1)


def paired_iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Computes intersection over union box by box.

    Args:
        boxes: float32 `[..., 4]`, xyxy, pixels.
        others: float32 `[..., 4]`, as `boxes`; one of two must have an area.

    Returns:
        float32 `[...]` in [0, 1].
    """
    return _paired_iou(boxes, others)[0]


def _paired_iou(boxes, others) -> tuple[tf.Tensor, tf.Tensor]:
    intersection = shared(boxes, others)
    union = area(boxes) + area(others) - intersection
    return intersection / union, union


def _enclosing_size(boxes, others) -> tf.Tensor:
    return tf.maximum(boxes[..., 2:], others[..., 2:]) - tf.minimum(boxes[..., :2], others[..., :2])


def to_cxcywh(boxes: tf.Tensor) -> tf.Tensor:
    """Turns xyxy into centre and size.

    Args:
        boxes: float32 `[..., 4]`, xyxy, pixels.

    Returns:
        float32 `[..., 4]`: centre x, centre y, width, height, pixels.
    """
    size = boxes[..., 2:] - boxes[..., :2]
    return tf.concat([boxes[..., :2] + 0.5 * size, size], axis=-1)


def to_xyxy(boxes_cxcywh: tf.Tensor) -> tf.Tensor:
    """Turns centre and size into xyxy; the inverse of `to_cxcywh`.

    Args:
        boxes_cxcywh: float32 `[..., 4]`: centre x, centre y, width, height, pixels.

    Returns:
        float32 `[..., 4]`, xyxy, pixels.
    """
    half = 0.5 * boxes_cxcywh[..., 2:]
    return tf.concat([boxes_cxcywh[..., :2] - half, boxes_cxcywh[..., :2] + half], axis=-1)


def encode(boxes: tf.Tensor, anchors: tf.Tensor, variances: tuple[float, float]) -> tf.Tensor:
    """Expresses boxes as offsets from anchors; the inverse of `decode`.

    Args:
        boxes: float32 `[..., A, 4]`, xyxy, pixels. Width and height must be positive.
        anchors: float32 `[A, 4]`, xyxy, pixels.
        variances: divisors of centre offsets and of log size ratios.

    Returns:
        float32 `[..., A, 4]`: centre offsets over anchor size, then log size ratios, each over its variance.

    Source: Fast R-CNN (Girshick, 2015), appendix C; the divisors are SSD's (Liu et al., 2016).
    """
    boxes = to_cxcywh(boxes)
    anchors = to_cxcywh(anchors)
    centre = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:] / variances[0]
    size = tf.math.log(boxes[..., 2:] / anchors[..., 2:]) / variances[1]
    return tf.concat([centre, size], axis=-1)


def decode(box_deltas: tf.Tensor, anchors: tf.Tensor, variances: tuple[float, float]) -> tf.Tensor:
    """Turns offsets from anchors into boxes; the inverse of `encode`.

    Args:
        box_deltas: float32 `[..., A, 4]` as from `encode`.
        anchors: float32 `[A, 4]`, or `[..., A, 4]` like the deltas, xyxy, pixels.
        variances: divisors that `encode` used.

    Returns:
        float32 `[..., A, 4]`, xyxy, pixels.
    """
    anchors = to_cxcywh(anchors)
    centre = anchors[..., :2] + box_deltas[..., :2] * variances[0] * anchors[..., 2:]
    size = anchors[..., 2:] * tf.exp(box_deltas[..., 2:] * variances[1])
    return to_xyxy(tf.concat([centre, size], axis=-1))
