"""Applies `dense_loss` to a detector's outputs: chooses anchors, crops them, and places the mean face on each."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, landmark, matcher
from keras_retinaface.mesh import camera as camera_module
from keras_retinaface.mesh import decoder as decoder_module
from keras_retinaface.mesh import dense_loss


class Photometric:
    """The photometric loss of a model.

    A plain object on purpose: Keras would make the frozen decoder a part of the model and of its files.

    Args:
        loss: its `dense_` fields.
        anchors: the model's.
    """

    def __init__(self, loss: config_lib.Loss, anchors: config_lib.Anchors):
        self._loss = loss
        self._anchors = anchors
        self.decoder = decoder_module.pretrained()
        self.decoder.trainable = False

    def __call__(self, images: tf.Tensor, targets: dict, outputs: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Sums the loss over the chosen anchors of a batch.

        Args:
            images: `[B, H, W, 3]`, RGB, 0..255.
            targets: `state` int32 `[B, A]` and `matched_box` float32 `[B, A, 4]`, xyxy, pixels.
            outputs: `mesh_code`, `box_deltas` and `landmark_deltas` of the model.

        Returns:
            As `dense_loss.dense_loss`.
        """
        settings, face = self._loss, self.decoder.face
        size = targets["matched_box"][..., 2:] - targets["matched_box"][..., :2]
        is_large = tf.reduce_min(size, -1) >= settings.dense_min_face
        is_candidate = tf.equal(targets["state"], matcher.POSITIVE) & is_large
        rows, weight = dense_loss.choose_anchors(is_candidate, settings.dense_max_faces)
        all_anchors = anchor.generate(tf.shape(images)[1:3], self._anchors.strides, self._anchors.sizes)
        anchors = tf.gather(all_anchors, rows[:, 1])
        boxes = box.decode(tf.gather_nd(outputs["box_deltas"], rows), anchors, self._anchors.variances)
        points = tf.gather_nd(outputs["landmark_deltas"], rows)
        points = landmark.decode(points, anchors, self._anchors.variances[0])
        crops, valid = dense_loss.crop(images, anchors, rows[:, 0], settings.dense_crop)
        return dense_loss.dense_loss(
            tf.gather_nd(outputs["mesh_code"], rows),
            crops,
            valid,
            camera_module.start_camera(boxes, points, anchors, face),
            weight,
            self.decoder,
            face,
            code_prior=settings.dense_code_prior,
            camera_prior=settings.dense_camera_prior,
            light_prior=settings.dense_light_prior,
        )
