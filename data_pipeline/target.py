"""Makes the targets of a batch from its faces, inside the graph."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, encoding, matcher


def make(
    sample: dict[str, tf.Tensor],
    image_size: tuple[int, int],
    anchors: config_lib.Anchors,
) -> dict[str, tf.Tensor]:
    """Makes what the losses want: anchor targets, or the faces themselves where the network's outputs decide.

    Args:
        sample: as for `encode`.
        image_size: (height, width), pixels.
        anchors: the design and who assigns.

    Returns:
        As `encode`, or with `assignment` "dynamic" what `network.assignment.encode` takes: `faces` float32
        `[B, N, 4]`, xyxy, pixels, `face_landmarks` float32 `[B, N, 5, 2]`, `landmark_visible` bool `[B, N, 5]`,
        `is_ignored` bool `[B, N]` and `num_faces` int32 `[B]`.
    """
    if anchors.assignment == "paper":
        return encode(sample, image_size, anchors)
    kept = {key: sample[key] for key in ("landmark_visible", "is_ignored", "num_faces")}
    return {"faces": sample["boxes"], "face_landmarks": sample["landmarks"], **kept}


def encode(
    sample: dict[str, tf.Tensor],
    image_size: tuple[int, int],
    anchors: config_lib.Anchors,
) -> dict[str, tf.Tensor]:
    """Encodes faces as what the losses compare the network's outputs with, by the overlaps of the anchors.

    Args:
        sample: samples of a batch, padded to the most faces of an image: `boxes` float32 `[B, N, 4]`, xyxy, pixels,
            `landmarks` float32 `[B, N, 5, 2]`, `landmark_visible` bool `[B, N, 5]`, `is_ignored` bool `[B, N]`,
            `num_faces` int32 `[B]`. Other keys are left alone.
        image_size: (height, width), pixels.
        anchors: the design and its thresholds.

    Returns:
        As `encoding.spread`.
    """
    faces = tf.cast(tf.where(tf.sequence_mask(sample["num_faces"], tf.shape(sample["boxes"])[1])), tf.int32)
    boxes = tf.gather_nd(sample["boxes"], faces)  # [faces, 4]
    assigned = matcher.assign(
        boxes,
        tf.gather_nd(sample["is_ignored"], faces),
        faces[:, 0],
        tf.shape(sample["num_faces"])[0],
        image_size=image_size,
        strides=anchors.strides,
        sizes=anchors.sizes,
        positive_iou=anchors.positive_iou,
        negative_iou=anchors.negative_iou,
        keep_best_anchor=anchors.keep_best_anchor,
        compensation=anchors.compensation,
    )
    with tf.init_scope():  # a constant of the graph, made once
        all_anchors = anchor.generate(image_size, anchors.strides, anchors.sizes)
    return encoding.spread(
        assigned,
        all_anchors,
        boxes,
        tf.gather_nd(sample["landmarks"], faces),
        tf.gather_nd(sample["landmark_visible"], faces),
        variances=anchors.variances,
    )
