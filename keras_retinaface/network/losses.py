"""The training losses: pure functions on targets and outputs, masked, each with the count that normalises it."""

from __future__ import annotations

import tensorflow as tf

from keras_retinaface.geometry import box, matcher

# Of a predicted box over its anchor: the exponential of more may not be finite.
_MAX_LOG_SIZE = 4.0
_OVERLAPS = {"giou": box.generalized_iou, "ciou": box.complete_iou, "eiou": box.efficient_iou}


def score_loss(scores: tf.Tensor, state: tf.Tensor, negative_ratio: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums cross entropy over the positive anchors and the hardest background anchors of each image.

    Args:
        scores: float32 `[B, A, 2]`, logits of background and face.
        state: int32 `[B, A]`, `matcher.POSITIVE`, `NEGATIVE` or `IGNORED`.
        negative_ratio: background anchors kept per positive one; an image without faces keeps as many as with one.

    Returns:
        The sum and the number of anchors in it, float32 scalars. To look for the hardest over a batch, make it one
        image: `[1, B A, 2]` and `[1, B A]`.

    Source: online hard example mining (Shrivastava et al., 2016) as in RetinaFace, section 4.1.
    """
    # Cross entropy of two classes, cheaper than a softmax over so short an axis.
    odds = scores[..., 1] - scores[..., 0]  # [B, A]
    is_positive = tf.equal(state, matcher.POSITIVE)
    positive_sum = tf.reduce_sum(tf.where(is_positive, tf.nn.softplus(-odds), 0.0))
    num_positive, kept = _sampled(state, negative_ratio)
    # Cross entropy is never negative, so -1 sorts every other anchor behind.
    negative_loss = tf.where(tf.equal(state, matcher.NEGATIVE), tf.nn.softplus(odds), -1.0)  # [B, A]
    most = tf.cast(tf.reduce_max(kept), tf.int32)
    hardest = tf.math.top_k(negative_loss, k=most).values  # [B, most]
    is_kept = tf.cast(tf.range(most), tf.float32)[None, :] < kept[:, None]
    negative_sum = tf.reduce_sum(tf.where(is_kept, hardest, 0.0))
    return positive_sum + negative_sum, tf.reduce_sum(num_positive + kept)


def score_count(state: tf.Tensor, negative_ratio: float) -> tf.Tensor:
    """Counts the anchors that `score_loss` sums over; arguments as there."""
    return tf.add_n([tf.reduce_sum(number) for number in _sampled(state, negative_ratio)])


def _sampled(state, negative_ratio: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the numbers of positive anchors and of background anchors to keep, both float32 `[B]`."""
    num_positive = tf.reduce_sum(tf.cast(tf.equal(state, matcher.POSITIVE), tf.float32), axis=1)
    num_negative = tf.reduce_sum(tf.cast(tf.equal(state, matcher.NEGATIVE), tf.float32), axis=1)
    return num_positive, tf.minimum(tf.math.ceil(tf.maximum(num_positive, 1.0) * negative_ratio), num_negative)


def focal_loss(scores: tf.Tensor, state: tf.Tensor, *, gamma: float, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums the focal loss over all anchors but the ignored ones.

    Args:
        scores: float32 `[B, A, 2]`, logits of background and face.
        state: int32 `[B, A]`.
        gamma: power that plays down what is already right; 0 is cross entropy.
        alpha: weight of faces; that of background is the rest of 1.

    Returns:
        The sum and the number of positive anchors, float32 scalars.

    Source: Focal Loss for Dense Object Detection (Lin et al., 2017), equation 5.
    """
    is_positive = tf.equal(state, matcher.POSITIVE)
    odds = scores[..., 1] - scores[..., 0]  # [B, A]
    odds_right = tf.where(is_positive, odds, -odds)
    # The probability of the wrong class as a logarithm: a power of it has a gradient at 0 too.
    loss = tf.exp(-gamma * tf.nn.softplus(odds_right)) * tf.nn.softplus(-odds_right)
    weight = tf.where(is_positive, alpha, 1.0 - alpha)
    total = tf.reduce_sum(tf.where(tf.equal(state, matcher.IGNORED), 0.0, weight * loss))
    return total, positive_count(state)


def quality_loss(
    scores: tf.Tensor, state: tf.Tensor, quality: tf.Tensor, *, gamma: float, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums cross entropy with a target between 0 and 1 for faces, and less of what is already right for background.

    Args:
        scores: float32 `[B, A, 2]`, logits of background and face.
        state: int32 `[B, A]`.
        quality: float32 `[B, A]`, what a face's probability should be; read where an anchor is positive.
        gamma: power of the probability that background counts with, which has no gradient.
        alpha: what is missing to 1 in the weight of background; faces weigh 1.

    Returns:
        The sum and the number of positive anchors, float32 scalars.

    Source: after Generalized Focal Loss (Li et al., 2020); positives count in full, as in VarifocalNet (Zhang et al.,
    2020).
    """
    is_positive = tf.equal(state, matcher.POSITIVE)
    odds = scores[..., 1] - scores[..., 0]  # [B, A]
    # The power through the logarithm of the probability: its own is 0 where odds are far below.
    background = (1.0 - alpha) * tf.exp(-gamma * tf.nn.softplus(-tf.stop_gradient(odds)))
    weight = tf.where(is_positive, 1.0, tf.where(tf.equal(state, matcher.IGNORED), 0.0, background))
    loss = tf.nn.softplus(odds) - tf.where(is_positive, quality, 0.0) * odds
    return tf.reduce_sum(weight * loss), positive_count(state)


def quality(
    box_deltas: tf.Tensor,
    matched_box: tf.Tensor,
    state: tf.Tensor,
    *,
    anchors: tf.Tensor,
    variances: tuple[float, float],
) -> tf.Tensor:
    """Computes how much the predicted box of every positive anchor overlaps its face, 0 elsewhere.

    Args:
        box_deltas: float32 `[B, A, 4]` of the model.
        matched_box: float32 `[B, A, 4]`, xyxy, pixels; read where an anchor is positive.
        state: int32 `[B, A]`.
        anchors: float32 `[A, 4]`, xyxy, pixels.
        variances: divisors of the offsets, see `box.encode`.

    Returns:
        float32 `[B, A]`, without a gradient.
    """
    is_positive = tf.equal(state, matcher.POSITIVE)
    wanted = tf.where(is_positive[..., None], matched_box, anchors)
    overlap = box.paired_iou(predicted_boxes(tf.stop_gradient(box_deltas), anchors, variances), wanted)
    return tf.where(is_positive, overlap, 0.0)


def predicted_boxes(box_deltas: tf.Tensor, anchors: tf.Tensor, variances: tuple[float, float]) -> tf.Tensor:
    """Decodes boxes as `box.decode`, those that are far too large cut off so that all are finite."""
    deltas = tf.concat([box_deltas[..., :2], tf.minimum(box_deltas[..., 2:], _MAX_LOG_SIZE / variances[1])], axis=-1)
    return box.decode(deltas, anchors, variances)


def positive_count(state: tf.Tensor) -> tf.Tensor:
    """Counts positive anchors, float32."""
    return tf.reduce_sum(tf.cast(tf.equal(state, matcher.POSITIVE), tf.float32))


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


def overlap_loss(
    box_deltas: tf.Tensor,
    matched_box: tf.Tensor,
    state: tf.Tensor,
    *,
    anchors: tf.Tensor,
    variances: tuple[float, float],
    kind: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums one minus the generalised, complete or efficient overlap of predicted boxes and faces over positive anchors.

    Args:
        box_deltas: float32 `[B, A, 4]` of the model.
        matched_box: float32 `[B, A, 4]`, xyxy, pixels; read where an anchor is positive.
        state: int32 `[B, A]`.
        anchors: float32 `[A, 4]`, xyxy, pixels.
        variances: divisors of the offsets, see `box.encode`.
        kind: "giou", "ciou" or "eiou".

    Returns:
        The sum and the number of positive anchors, float32 scalars.
    """
    is_positive = tf.equal(state, matcher.POSITIVE)
    # Elsewhere anchors meet themselves, which has a finite gradient to mask.
    deltas = tf.where(is_positive[..., None], box_deltas, 0.0)
    wanted = tf.where(is_positive[..., None], matched_box, anchors)
    loss = 1.0 - _OVERLAPS[kind](predicted_boxes(deltas, anchors, variances), wanted)  # [B, A]
    return tf.reduce_sum(tf.where(is_positive, loss, 0.0)), positive_count(state)


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
    return tf.reduce_sum(smooth_l1(landmark_deltas - target) * weight[..., None]), landmark_count(weight)


def landmark_count(weight: tf.Tensor) -> tf.Tensor:
    """Counts labelled points over the points of a face; `weight` as for `landmark_loss`."""
    return tf.reduce_sum(weight) / float(weight.shape[-1])


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
