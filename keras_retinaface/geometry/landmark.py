"""Operations on five facial landmarks: (x, y), pixels; eyes, nose tip, mouth corners, left of the image first."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface.geometry import five_points

NUM_LANDMARKS = len(five_points.NAMES)


def encode(landmarks: tf.Tensor, anchors: tf.Tensor, variance: float) -> tf.Tensor:
    """Expresses landmarks as offsets from anchor centres; the inverse of `decode`.

    Args:
        landmarks: float32 `[..., A, 5, 2]`, pixels.
        anchors: float32 `[A, 4]`, xyxy, pixels.
        variance: divisor of the offsets.

    Returns:
        float32 `[..., A, 5, 2]`: offsets over anchor size over `variance`.
    """
    centre, size = _centre_and_size(anchors)
    return (landmarks - centre) / size / variance


def decode(landmark_deltas: tf.Tensor, anchors: tf.Tensor, variance: float) -> tf.Tensor:
    """Turns offsets from anchor centres into landmarks; the inverse of `encode`.

    Args:
        landmark_deltas: float32 `[..., A, 5, 2]` as from `encode`.
        anchors: float32 `[A, 4]`, or `[..., A, 4]` like the deltas, xyxy, pixels.
        variance: divisor that `encode` used.

    Returns:
        float32 `[..., A, 5, 2]`, pixels.
    """
    centre, size = _centre_and_size(anchors)
    return centre + landmark_deltas * variance * size


def mirror(landmarks: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Mirrors landmarks with their image: x turns round and left becomes right.

    Args:
        landmarks: float32 `[..., 5, 2]`, pixels.
        width: width of the image, pixels.

    Returns:
        float32 `[..., 5, 2]`, pixels.
    """
    landmarks = tf.gather(landmarks, five_points.MIRRORED, axis=-2)
    return tf.stack([tf.cast(width, landmarks.dtype) - landmarks[..., 0], landmarks[..., 1]], axis=-1)


def _centre_and_size(anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    centre = 0.5 * (anchors[..., :2] + anchors[..., 2:])
    return centre[..., None, :], (anchors[..., 2:] - anchors[..., :2])[..., None, :]
