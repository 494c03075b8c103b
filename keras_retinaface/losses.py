"""The training losses: pure functions on targets and outputs, masked, each with the count that normalises it."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface.geometry import matcher


def score_loss(scores: tf.Tensor, state: tf.Tensor, negative_ratio: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums cross entropy over the positive anchors and the hardest background anchors of each image.

    Args:
        scores: float32 `[B, A, 2]`, logits of background and face.
        state: int32 `[B, A]`, `matcher.POSITIVE`, `NEGATIVE` or `IGNORED`.
        negative_ratio: background anchors kept per positive one; an image without faces keeps as many as with one.

    Returns:
        The sum and the number of anchors in it, float32 scalars.

    Source: online hard example mining (Shrivastava et al., 2016) as in RetinaFace, section 4.1.
    """
    log_probability = tf.nn.log_softmax(scores)
    is_positive = tf.equal(state, matcher.POSITIVE)
    is_negative = tf.equal(state, matcher.NEGATIVE)
    positive_sum = tf.reduce_sum(tf.where(is_positive, -log_probability[..., 1], 0.0))
    num_positive = tf.reduce_sum(tf.cast(is_positive, tf.float32), axis=1)  # [B]
    num_negative = tf.reduce_sum(tf.cast(is_negative, tf.float32), axis=1)
    kept = tf.minimum(tf.math.ceil(tf.maximum(num_positive, 1.0) * negative_ratio), num_negative)  # [B]
    # Cross entropy is never negative, so -1 sorts every other anchor behind.
    negative_loss = tf.where(is_negative, -log_probability[..., 0], -1.0)  # [B, A]
    most = tf.cast(tf.reduce_max(kept), tf.int32)
    hardest = tf.math.top_k(negative_loss, k=most).values  # [B, most]
    is_kept = tf.cast(tf.range(most), tf.float32)[None, :] < kept[:, None]
    negative_sum = tf.reduce_sum(tf.where(is_kept, hardest, 0.0))
    return positive_sum + negative_sum, tf.reduce_sum(num_positive + kept)


def box_loss(box_deltas: tf.Tensor, target: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums smooth L1 over the box offsets of positive anchors.

    Args:
        box_deltas: float32 `[B, A, 4]` of the model.
        target: float32 `[B, A, 4]`; finite everywhere.
        state: int32 `[B, A]`.

    Returns:
        The sum and the number of positive anchors, float32 scalars.
    """
    weight = tf.cast(tf.equal(state, matcher.POSITIVE), tf.float32)
    return tf.reduce_sum(smooth_l1(box_deltas - target) * weight[..., None]), tf.reduce_sum(weight)


def landmark_loss(landmark_deltas: tf.Tensor, target: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums smooth L1 over the offsets of labelled landmarks.

    Args:
        landmark_deltas: float32 `[B, A, 5, 2]` of the model.
        target: float32 `[B, A, 5, 2]`; finite everywhere.
        weight: float32 `[B, A, 5]`, 1 where the anchor is positive and its face has the point labelled, else 0.

    Returns:
        The sum and the number of labelled points over five, which is the number of faces where all are labelled;
        float32 scalars.
    """
    total = tf.reduce_sum(smooth_l1(landmark_deltas - target) * weight[..., None])
    return total, tf.reduce_sum(weight) / float(weight.shape[-1])


def smooth_l1(difference: tf.Tensor) -> tf.Tensor:
    """Computes `0.5 d^2` where `|d| < 1`, else `|d| - 0.5`, element by element."""
    size = tf.abs(difference)
    return tf.where(size < 1.0, 0.5 * tf.square(difference), size - 0.5)


def recall(scores: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Counts the positive anchors that the model calls a face.

    Args:
        scores: float32 `[B, A, 2]`, logits of background and face.
        state: int32 `[B, A]`.

    Returns:
        Positive anchors with more than even odds for a face, and all positive anchors; float32 scalars.
    """
    is_positive = tf.equal(state, matcher.POSITIVE)
    is_found = tf.logical_and(is_positive, scores[..., 1] > scores[..., 0])
    return tf.reduce_sum(tf.cast(is_found, tf.float32)), tf.reduce_sum(tf.cast(is_positive, tf.float32))
