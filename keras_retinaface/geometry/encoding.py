"""Spreads the faces that anchors were given over all anchors of a batch, as what the losses compare outputs with."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface.geometry import box, landmark, matcher


def spread(
    assigned: matcher.Assignment,
    anchors: tf.Tensor,
    boxes: tf.Tensor,
    landmarks: tf.Tensor,
    landmark_visible: tf.Tensor,
    *,
    variances: tuple[float, float],
) -> dict[str, tf.Tensor]:
    """Encodes the face of every positive anchor; all others are zeros that nobody touches twice.

    Args:
        assigned: which anchors have which face.
        anchors: float32 `[A, 4]`, xyxy, pixels, of one image.
        boxes: float32 `[N, 4]`, xyxy, pixels, the faces that `assigned.faces` counts.
        landmarks: float32 `[N, 5, 2]`, pixels; may be anything where not visible.
        landmark_visible: bool `[N, 5]`.
        variances: see `box.encode`.

    Returns:
        `state` int32 `[B, A]`, `box_deltas` float32 `[B, A, 4]`, `landmark_deltas` float32 `[B, A, 5, 2]`,
        `landmark_weight` float32 `[B, A, 5]` and `matched_box` float32 `[B, A, 4]`, xyxy, pixels; all zero where the
        anchor is not positive, and landmark deltas zero where the weight is.
    """
    shape = tf.shape(assigned.state)
    positive = tf.gather(anchors, assigned.anchors % shape[1])  # [P, 4]
    matched_box = tf.gather(boxes, assigned.faces)
    weight = tf.cast(tf.gather(landmark_visible, assigned.faces), tf.float32)  # [P, 5]
    deltas = landmark.encode(tf.gather(landmarks, assigned.faces), positive, variances[0])
    deltas = tf.where(weight[..., None] > 0.0, deltas, 0.0)

    def over_all(values: tf.Tensor) -> tf.Tensor:
        tail = values.shape[1:].as_list()
        rows = tf.scatter_nd(assigned.anchors[:, None], values, [shape[0] * shape[1]] + tail)
        return tf.reshape(rows, [shape[0], shape[1]] + tail)

    return {
        "state": assigned.state,
        "box_deltas": over_all(box.encode(matched_box, positive, variances)),
        "landmark_deltas": over_all(deltas),
        "landmark_weight": over_all(weight),
        "matched_box": over_all(matched_box),
    }
