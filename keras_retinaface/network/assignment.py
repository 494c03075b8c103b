"""Gives anchors to faces by what the network itself predicts, inside the graph; by overlap of anchors it is `matcher`.

Shapes depend on the faces, so XLA and TPUs do not take it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, encoding, matcher
from keras_retinaface.network import losses

# Anchors that a face is measured with, and the most that it gets.
_NUM_BEST = 10
# Strides from a face's centre within which an anchor is near it.
_NEAR = 1.5
_IOU_COST = 3.0
_SMALLEST_IOU = 1e-4
# Of an anchor that is inside a face or near its centre, but not both.
_OUTSIDE_COST = 3.0
# Background that lies in an ignored face by more than this share, or overlaps it by more than that, is ignored.
_COVERED_SHARE = 0.5
_COVERED_IOU = 0.3
# Searched a little wider than the arithmetic asks, because rounding must not lose a pair.
_MARGIN = 1e-2
_NO_FACE = tf.int64.max
_LOW_WORD = (1 << 32) - 1


def encode(
    targets: dict[str, tf.Tensor],
    outputs: dict[str, tf.Tensor],
    image_size: tf.Tensor | tuple[int, int],
    settings: config_lib.Anchors,
) -> dict[str, tf.Tensor]:
    """Turns the faces of a batch into targets of its anchors.

    Candidates of a face are the anchors whose centre is inside it or within 1.5 strides of its centre. One costs
    `softplus(-logit) - 3 log(IoU of its predicted box) + |log(side of the face / side of the anchor)|`, and 3 more
    where it is not both. A face takes as many of its ten cheapest candidates as their ten best overlaps sum to, one at
    least; an anchor that several want goes to the one to which it is cheapest. Background is ignored where the anchor
    or its predicted box lies in an ignored face by more than half, or the box overlaps one by more than .3.

    Memory is bounded by `matcher.MAX_PAIRS`, whatever the number of faces. No gradient passes.

    Args:
        targets: targets from `data_pipeline.target.make`, padded: `faces` float32 `[B, N, 4]`, xyxy, pixels,
            `face_landmarks` float32 `[B, N, 5, 2]`, `landmark_visible` bool `[B, N, 5]`, `is_ignored` bool `[B, N]` and
            `num_faces` int32 `[B]`. Faces that are not ignored must have an area.
        outputs: `scores` float32 `[B, A, 2]` and `box_deltas` float32 `[B, A, 4]` of the model.
        image_size: int32 `[2]` or a pair, (height, width), pixels.
        settings: the design of the anchors.

    Returns:
        As `encoding.spread`.

    Source: SimOTA of YOLOX (Ge et al., 2021), as YuNet trains; size term and ignored faces are this project's.
    """
    anchors = anchor.generate(image_size, settings.strides, settings.sizes)  # [A, 4]
    predicted = losses.predicted_boxes(tf.stop_gradient(outputs["box_deltas"]), anchors, settings.variances)
    logits = tf.stop_gradient(outputs["scores"])
    logits = logits[..., 1] - logits[..., 0]  # [B, A]
    is_face = tf.sequence_mask(targets["num_faces"], tf.shape(targets["faces"])[1])  # [B, N]
    rows = tf.where(is_face & ~targets["is_ignored"])  # [F, 2]
    boxes = tf.gather_nd(targets["faces"], rows)
    kinds = matcher.make_kinds(image_size, settings.strides, settings.sizes)
    keys = _choose(boxes, tf.cast(rows[:, 0], tf.int32), predicted, logits, kinds)  # [B A]
    ignored = tf.where(is_face & targets["is_ignored"])
    over, of_image = tf.gather_nd(targets["faces"], ignored), tf.cast(ignored[:, 0], tf.int32)
    is_covered = _covers_anchor(over, of_image, anchors, tf.shape(logits)[0], kinds)
    is_covered |= _covers_prediction(over, of_image, predicted)  # [B, A]
    is_positive = keys < _NO_FACE
    background = tf.where(is_covered, matcher.IGNORED, matcher.NEGATIVE)
    positive = tf.cast(tf.where(is_positive)[:, 0], tf.int32)  # [P]
    return encoding.spread(
        matcher.Assignment(
            state=tf.where(tf.reshape(is_positive, tf.shape(logits)), matcher.POSITIVE, background),
            anchors=positive,
            faces=tf.cast(tf.bitwise.bitwise_and(tf.gather(keys, positive), _LOW_WORD), tf.int32),
        ),
        anchors,
        boxes,
        tf.gather_nd(targets["face_landmarks"], rows),
        tf.gather_nd(targets["landmark_visible"], rows),
        variances=settings.variances,
    )


class _Pairs(NamedTuple):
    """Anchors in the windows of some faces, face by face; `P` pairs of `F` faces.

    Attributes:
        faces: int32 `[P]`, which of all faces.
        rows: int32 `[P]`, which of all anchors, as `image * A + anchor`.
        is_near: bool `[P]`, whether the anchor is near the face's centre.
        is_inside: bool `[P]`, whether it is inside the face.
        size_cost: float32 `[P]`, what the difference of their sizes costs.
        num: int32 `[F]`, pairs of each face.
    """

    faces: tf.Tensor
    rows: tf.Tensor
    is_near: tf.Tensor
    is_inside: tf.Tensor
    size_cost: tf.Tensor
    num: tf.Tensor


def _fold_pairs(
    boxes: tf.Tensor, images: tf.Tensor, kinds: matcher.Kinds, take: Callable[[tf.Tensor, _Pairs], tf.Tensor], state
) -> tf.Tensor:
    """Hands the pairs of all faces to `take`, part by part with what it last returned, which starts as `state`.

    Args:
        boxes: float32 `[F, 4]`, faces of all images.
        images: int32 `[F]`, the image of each.
        kinds: kinds of the anchors.
        take: sees some faces whole.
        state: a tensor.
    """
    low, extent = _windows(boxes, kinds)  # [F, K, 2]
    num_pairs = tf.reduce_sum(extent[..., 0] * extent[..., 1], axis=1)  # [F]
    # Faces of like numbers of candidates stand beside each other, so that padding them to the most costs little.
    order = tf.argsort(num_pairs, direction="DESCENDING", stable=True)
    num_faces = tf.shape(boxes)[0]

    def take_chunk(start, state):
        end = tf.minimum(start + tf.maximum(matcher.MAX_PAIRS // tf.maximum(num_pairs[order[start]], 1), 1), num_faces)
        chosen = order[start:end]
        face, anchors, *rest = _pairs(*(tf.gather(x, chosen) for x in (boxes, low, extent)), kinds)
        faces = tf.gather(chosen, face)
        rows = tf.gather(images, faces) * kinds.num_anchors + anchors
        return end, take(state, _Pairs(faces, rows, *rest, num=tf.gather(num_pairs, chosen)))

    start = (tf.constant(0), state)
    return tf.while_loop(lambda start, _: start < num_faces, take_chunk, start, parallel_iterations=1)[1]


def _choose(
    boxes: tf.Tensor, images: tf.Tensor, predicted: tf.Tensor, logits: tf.Tensor, kinds: matcher.Kinds
) -> tf.Tensor:
    """Returns the face of every anchor of the batch as the low word of an int64 `[B A]`, `_NO_FACE` without one.

    Args:
        boxes: float32 `[F, 4]`, faces of all images.
        images: int32 `[F]`, the image of each.
        predicted: float32 `[B, A, 4]`.
        logits: float32 `[B, A]`.
        kinds: kinds of the anchors.
    """
    predicted, logits = tf.reshape(predicted, [-1, 4]), tf.reshape(logits, [-1])

    def take(keys, pairs):
        overlap = box.paired_iou(tf.gather(predicted, pairs.rows), tf.gather(boxes, pairs.faces))
        cost = tf.nn.softplus(-tf.gather(logits, pairs.rows)) + pairs.size_cost
        cost += tf.where(pairs.is_near & pairs.is_inside, 0.0, _OUTSIDE_COST)
        # Rounding may bring an overlap over 1, and a cost must not be negative.
        cost -= _IOU_COST * tf.math.log(tf.clip_by_value(overlap, _SMALLEST_IOU, 1.0))
        taken = _cheapest(cost, overlap, pairs.is_near | pairs.is_inside, pairs.num)  # [T]
        key = _pack(tf.gather(cost, taken), tf.gather(pairs.faces, taken))
        return tf.tensor_scatter_nd_min(keys, tf.gather(pairs.rows, taken)[:, None], key)

    return _fold_pairs(boxes, images, kinds, take, tf.fill([tf.size(logits)], tf.constant(_NO_FACE, tf.int64)))


def _windows(boxes: tf.Tensor, kinds: matcher.Kinds) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns first cell and extent, (columns, rows), int32 `[F, K, 2]`, of what holds all candidates of a kind."""
    centre = 0.5 * (boxes[:, None, :2] + boxes[:, None, 2:])
    stride = kinds.stride[:, None]
    low = tf.minimum(boxes[:, None, :2], centre - _NEAR * stride) - _MARGIN
    high = tf.maximum(boxes[:, None, 2:], centre + _NEAR * stride) + _MARGIN
    limit = tf.cast(tf.stack([kinds.columns, kinds.rows], axis=-1), tf.float32)  # [K, 2]
    low = tf.clip_by_value(tf.math.ceil(low / stride - 0.5), 0.0, limit)
    high = tf.clip_by_value(tf.math.floor(high / stride - 0.5) + 1.0, 0.0, limit)
    return tf.cast(low, tf.int32), tf.cast(tf.maximum(high - low, 0.0), tf.int32)


def _pairs(boxes: tf.Tensor, low: tf.Tensor, extent: tf.Tensor, kinds: matcher.Kinds) -> tuple[tf.Tensor, ...]:
    """Lists the anchors in the windows of faces, face by face.

    Returns:
        Row of the face and anchor of its image, int32 `[P]`, whether it is near the face's centre and whether it is
        inside the face, bool `[P]`, and what the difference of their sizes costs, float32 `[P]`.
    """
    num_kinds = kinds.size.shape[0]
    extent = tf.reshape(extent, [-1, 2])  # [F K, 2]
    sizes = extent[:, 0] * extent[:, 1]
    entry = tf.repeat(tf.range(tf.size(sizes)), sizes)  # [P]
    local = tf.range(tf.size(entry)) - tf.gather(tf.cumsum(sizes, exclusive=True), entry)
    columns = tf.gather(extent[:, 0], entry)
    cell = tf.stack([local % columns, local // columns], axis=-1) + tf.gather(tf.reshape(low, [-1, 2]), entry)
    face, kind = entry // num_kinds, entry % num_kinds
    anchors = tf.gather(kinds.first, kind)
    anchors += (cell[:, 1] * tf.gather(kinds.columns, kind) + cell[:, 0]) * kinds.step
    stride = tf.gather(kinds.stride, kind)[:, None]
    place = (tf.cast(cell, tf.float32) + 0.5) * stride  # [P, 2]
    of_face = tf.gather(boxes, face)
    inside = tf.reduce_all((place > of_face[:, :2]) & (place < of_face[:, 2:]), axis=-1)
    near = tf.reduce_all(tf.abs(place - 0.5 * (of_face[:, :2] + of_face[:, 2:])) < _NEAR * stride, axis=-1)
    side = 0.5 * tf.reduce_sum(tf.math.log(tf.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)), axis=-1)
    size_cost = tf.abs(side[:, None] - tf.math.log(kinds.size))  # [F, K]
    return face, anchors, near, inside, tf.gather(tf.reshape(size_cost, [-1]), entry)


def _cheapest(cost: tf.Tensor, overlap: tf.Tensor, is_candidate: tf.Tensor, num_pairs: tf.Tensor) -> tf.Tensor:
    """Returns which pairs, int32 `[T]`, are among the cheapest of their face; pairs stand face by face."""
    worst = cost.dtype.max
    num_best = tf.minimum(tf.reduce_max(num_pairs), _NUM_BEST)
    overlap = _by_face(tf.where(is_candidate, overlap, 0.0), num_pairs, 0.0)  # [F, M]
    wanted = tf.maximum(tf.cast(tf.reduce_sum(tf.math.top_k(overlap, num_best).values, axis=1), tf.int32), 1)
    cheapest = tf.math.top_k(_by_face(tf.where(is_candidate, -cost, -worst), num_pairs, -worst), num_best)
    is_taken = (tf.range(num_best)[None, :] < wanted[:, None]) & (cheapest.values > -worst)
    first = tf.cumsum(num_pairs, exclusive=True)
    return tf.boolean_mask(first[:, None] + cheapest.indices, is_taken)


def _by_face(values: tf.Tensor, num_pairs: tf.Tensor, rest: float) -> tf.Tensor:
    """Lays the values of pairs into a row a face, `[F, M]`."""
    return tf.RaggedTensor.from_row_lengths(values, num_pairs, validate=False).to_tensor(rest)


def _pack(cost: tf.Tensor, face: tf.Tensor) -> tf.Tensor:
    """Makes one int64 that orders by cost, which is not negative, then by lower face."""
    high = tf.bitwise.left_shift(tf.cast(tf.bitcast(cost, tf.int32), tf.int64), tf.constant(32, tf.int64))
    return high + tf.cast(face, tf.int64)


def _covers_anchor(boxes: tf.Tensor, images: tf.Tensor, anchors: tf.Tensor, num_images: tf.Tensor, kinds) -> tf.Tensor:
    """Returns bool `[B, A]`, whether an anchor lies in an ignored face; arguments as of `_covers_prediction`."""

    def take(is_covered, pairs):
        # What lies in a face by more than half both ways has its centre there, so the windows hold it.
        of_pair = tf.gather(anchors, pairs.rows % kinds.num_anchors)
        of_face = tf.gather(boxes, pairs.faces)
        is_in = tf.cast(box.shared(of_pair, of_face) > _COVERED_SHARE * box.area(of_pair), tf.int32)
        return tf.tensor_scatter_nd_max(is_covered, pairs.rows[:, None], is_in)

    done = _fold_pairs(boxes, images, kinds, take, tf.zeros([num_images * kinds.num_anchors], tf.int32))
    return tf.reshape(done > 0, [num_images, kinds.num_anchors])


def _covers_prediction(boxes: tf.Tensor, images: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Returns bool `[B, A]`, whether the predicted box of an anchor lies over an ignored face.

    Args:
        boxes: float32 `[I, 4]`, ignored faces of all images, image by image.
        images: int32 `[I]`, the image of each.
        predicted: float32 `[B, A, 4]`.
    """
    shape = tf.shape(predicted)
    at_once = tf.maximum(matcher.MAX_PAIRS // (2 * shape[1]), 1)
    num_faces = tf.math.bincount(images, minlength=shape[0], maxlength=shape[0])  # [B]
    ends = tf.cumsum(num_faces)
    last_chunk = tf.cumsum((num_faces + at_once - 1) // at_once)  # chunks up to each image

    def take_chunk(chunk, is_covered):
        image = tf.searchsorted(last_chunk, [chunk], side="right")[0]
        # Counted from the last chunk of the image, because the ends are what there is.
        end = ends[image] - (last_chunk[image] - 1 - chunk) * at_once
        faces = boxes[tf.maximum(end - at_once, ends[image] - num_faces[image]) : end]
        hit = tf.cast(_is_over(predicted[image], faces), tf.int32)
        return chunk + 1, tf.tensor_scatter_nd_max(is_covered, [[image]], [hit])

    nothing = tf.zeros(shape[:2], tf.int32)
    num_chunks = last_chunk[-1]
    done = tf.while_loop(lambda chunk, _: chunk < num_chunks, take_chunk, (0, nothing), parallel_iterations=1)[1]
    return done > 0


def _is_over(boxes: tf.Tensor, faces: tf.Tensor) -> tf.Tensor:
    """Returns bool `[A]`, whether any of `faces` `[I, 4]` covers enough of a box or overlaps it enough."""
    shared = box.shared(boxes, faces[:, None])  # [I, A]
    area = box.area(boxes)
    # shared / (area + of the face - shared) > the limit, solved for what they share.
    limit = _COVERED_IOU / (1.0 + _COVERED_IOU)
    enough = tf.minimum(_COVERED_SHARE * area, limit * (area + box.area(faces)[:, None]))
    return tf.reduce_any(shared > enough, axis=0)
