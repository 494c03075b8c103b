"""Encodes the faces of a batch as anchor targets, inside the graph."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, landmark, matcher


def encode(
    sample: dict[str, tf.Tensor],
    image_size: tuple[int, int],
    anchors: config_lib.Anchors,
) -> dict[str, tf.Tensor]:
    """Encodes faces as what the losses compare the network's outputs with.

    Args:
        sample: of a batch, padded to the most faces of an image: `boxes` float32 `[B, N, 4]`, xyxy, pixels, `landmarks`
            float32 `[B, N, 5, 2]`, `landmark_visible` bool `[B, N, 5]`, `is_ignored` bool `[B, N]`, `num_faces` int32
            `[B]`. Other keys are left alone.
        image_size: (height, width), pixels.
        anchors: the design and its thresholds.

    Returns:
        `state` int32 `[B, A]` (constants of `matcher`), `box_deltas` float32 `[B, A, 4]`, `landmark_deltas` float32
        `[B, A, 5, 2]`, `landmark_weight` float32 `[B, A, 5]` and `matched_box` float32 `[B, A, 4]`, xyxy, pixels; all
        zero where the anchor is not positive, and deltas zero where the weight is.
    """
    num_images = tf.shape(sample["num_faces"])[0]
    faces = tf.cast(tf.where(tf.sequence_mask(sample["num_faces"], tf.shape(sample["boxes"])[1])), tf.int32)
    boxes = tf.gather_nd(sample["boxes"], faces)  # [faces, 4]
    assigned = matcher.assign(
        boxes,
        tf.gather_nd(sample["is_ignored"], faces),
        faces[:, 0],
        num_images,
        image_size=image_size,
        strides=anchors.strides,
        sizes=anchors.sizes,
        positive_iou=anchors.positive_iou,
        negative_iou=anchors.negative_iou,
        keep_best_anchor=anchors.keep_best_anchor,
        compensation=anchors.compensation,
    )
    # Only positive rows are computed; the rest of these large tensors is zeros that nobody touches twice.
    num_anchors = tf.shape(assigned.state)[1]
    with tf.init_scope():  # a constant of the graph, made once
        all_anchors = anchor.generate(image_size, anchors.strides, anchors.sizes)
    positive = tf.gather(all_anchors, assigned.anchors % num_anchors)  # [P, 4]
    matched_box = tf.gather(boxes, assigned.faces)
    matched = tf.gather(faces, assigned.faces)
    weight = tf.cast(tf.gather_nd(sample["landmark_visible"], matched), tf.float32)  # [P, 5]
    deltas = landmark.encode(tf.gather_nd(sample["landmarks"], matched), positive, anchors.variances[0])
    deltas = tf.where(weight[..., None] > 0.0, deltas, 0.0)

    def spread(values: tf.Tensor) -> tf.Tensor:
        tail = values.shape[1:].as_list()
        dense = tf.scatter_nd(assigned.anchors[:, None], values, [num_images * num_anchors] + tail)
        return tf.reshape(dense, [num_images, num_anchors] + tail)

    return {
        "state": assigned.state,
        "box_deltas": spread(box.encode(matched_box, positive, anchors.variances)),
        "landmark_deltas": spread(deltas),
        "landmark_weight": spread(weight),
        "matched_box": spread(matched_box),
    }
