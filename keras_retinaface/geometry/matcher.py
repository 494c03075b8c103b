"""Matches the square anchors of a feature pyramid to faces, touching only the anchors near one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_retinaface.geometry import anchor, box

POSITIVE = 1
NEGATIVE = 0
IGNORED = -1

# Pairs of a face and an anchor handled at once; about twenty four-byte numbers each, so some 20 MiB.
MAX_PAIRS = 1 << 18
# Searched a little wider than the arithmetic asks, because rounding must not lose a pair.
_MARGIN = 1e-2
# Under any face, so that a threshold of zero does not pair everything with everything.
_SMALLEST_IOU = 1e-3
_NO_FACE = -1
# Of an overlap by compensation: a face far smaller than the anchors must not spread over all around it.
_LARGEST_GAIN = 4.0
# Keys are int64: the overlap's bits, then the face. A claim sets a bit over both.
_CLAIM = 1 << 62
_LOW_WORD = (1 << 32) - 1


class Assignment(NamedTuple):
    """What every anchor is, and which face the positive ones belong to.

    Attributes:
        state: int32 `[B, A]`, `POSITIVE`, `NEGATIVE` or `IGNORED`.
        anchors: int32 `[P]`, the positive anchors, rising, as `image * A + anchor`.
        faces: int32 `[P]`, row of each one's face.
    """

    state: tf.Tensor
    anchors: tf.Tensor
    faces: tf.Tensor


class Kinds(NamedTuple):
    """The K combinations of a level and a size; all fields `[K]`."""

    size: tf.Tensor
    stride: tf.Tensor
    rows: tf.Tensor
    columns: tf.Tensor
    first: tf.Tensor  # index of the kind's anchor on the level's first location
    step: int  # anchors from one location to the next
    num_anchors: tf.Tensor


def assign(
    boxes: tf.Tensor,
    is_ignored: tf.Tensor,
    image_ids: tf.Tensor,
    num_images: tf.Tensor | int,
    *,
    image_size: tf.Tensor | tuple[int, int],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    positive_iou: float,
    negative_iou: float,
    keep_best_anchor: bool,
    compensation: float = 0.0,
) -> Assignment:
    """Matches anchors to the faces of a batch of images.

    An anchor goes to the face it overlaps most, the first of equals. It is positive above `positive_iou`, background
    below `negative_iou` and ignored between. With `keep_best_anchor` a face also claims the anchor that overlaps it
    most, of equals the one nearest to its centre, whatever that one's state; where two faces claim one anchor the
    larger overlap wins. An ignored face makes no anchor positive. It turns those that would match it, and its best
    one, from background to ignored; for that it counts as at least as large as the smallest anchor, which is the one
    that fires on faces too small to see.

    Args:
        boxes: float32 `[N, 4]`, xyxy, pixels, faces of all images.
        is_ignored: bool `[N]`.
        image_ids: int32 `[N]`, the image of each face.
        num_images: B.
        image_size: int32 `[2]` or a pair, (height, width), pixels.
        strides: pixels between anchor centres of each level.
        sizes: side lengths of the anchors on one location, one sequence per level, pixels.
        positive_iou: see above.
        negative_iou: see above.
        keep_best_anchor: see above.
        compensation: overlaps of a face whose best anchor reaches less than this count as many times larger as brings
            that anchor up to it. Faces smaller than every anchor then have several positive anchors and no hard
            background right beside them. 0 leaves all as they are.

    Returns:
        The state of every anchor in the order of `anchor.generate`, and the faces of the positive ones.
    """
    kinds = make_kinds(image_size, strides, sizes)
    boxes = tf.where(is_ignored[:, None], _grow(boxes, min(min(level) for level in sizes)), boxes)
    num_all = num_images * kinds.num_anchors
    # Ignored faces get a second set of anchors, so that one pass serves both.
    offset = image_ids * kinds.num_anchors + tf.where(is_ignored, num_all, 0)  # [N]

    rows, claims, best = _claims(boxes, offset, kinds)
    gain = tf.clip_by_value(tf.math.divide_no_nan(compensation, best), 1.0, _LARGEST_GAIN)  # [N]
    keys = _best_faces(boxes, offset, 2 * num_all, kinds, max(negative_iou, _SMALLEST_IOU), gain)
    if keep_best_anchor:
        keys = tf.tensor_scatter_nd_max(keys, rows, claims)
    usable, ignored = keys[:num_all], keys[num_all:]
    is_positive = usable > _threshold(positive_iou) + _LOW_WORD
    is_between = (usable >= _threshold(negative_iou)) | (ignored >= _threshold(negative_iou))
    state = tf.where(is_positive, POSITIVE, tf.where(is_between, IGNORED, NEGATIVE))
    anchors = tf.cast(tf.where(is_positive)[:, 0], tf.int32)  # [P]
    return Assignment(
        state=tf.reshape(state, [num_images, kinds.num_anchors]),
        anchors=anchors,
        faces=_unpack_face(tf.gather(usable, anchors)),
    )


def make_kinds(image_size, strides: Sequence[int], sizes: Sequence[Sequence[float]]) -> Kinds:
    """Lays out the kinds of anchors of an image; arguments as for `assign`."""
    step = len(sizes[0])
    features = tf.stack([anchor.feature_size(image_size, stride) for stride in strides])  # [L, 2]
    num_level = features[:, 0] * features[:, 1] * step
    first = tf.cumsum(num_level, exclusive=True)[:, None] + tf.range(step)  # [L, S]
    return Kinds(
        size=tf.reshape(tf.constant(sizes, tf.float32), [-1]),
        stride=tf.repeat(tf.constant(strides, tf.float32), step),
        rows=tf.repeat(features[:, 0], step),
        columns=tf.repeat(features[:, 1], step),
        first=tf.reshape(first, [-1]),
        step=step,
        num_anchors=tf.reduce_sum(num_level),
    )


def _grow(boxes: tf.Tensor, smallest: float) -> tf.Tensor:
    """Widens boxes about their centres to a smallest side."""
    centre = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    half = 0.5 * tf.maximum(boxes[:, 2:] - boxes[:, :2], smallest)
    return tf.concat([centre - half, centre + half], axis=-1)


def _best_faces(
    boxes: tf.Tensor, offset: tf.Tensor, num_keys: tf.Tensor, kinds: Kinds, iou: float, gain: tf.Tensor
) -> tf.Tensor:
    """Finds the packed best face of every anchor with an overlap of at least `iou`; elsewhere the key is not positive.

    Overlaps of face n count `gain[n]` times.

    Source of the bound: the intersection is at least `iou` times the larger area, so the shared width is at least that
    over the smaller height, and the centres are at most that much closer than touching.
    """
    num_kinds = kinds.size.shape[0]
    size = boxes[:, 2:] - boxes[:, :2]  # [N, 2]
    centre = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    side = tf.minimum(size[:, None, :], kinds.size[:, None])  # [N, K, 2]
    needed = iou / gain * tf.maximum(size[:, 0] * size[:, 1], (kinds.size**2)[:, None])  # [K, N]
    needed = tf.math.divide_no_nan(tf.transpose(needed)[..., None], side[..., ::-1])  # [N, K, 2]
    reach = 0.5 * (size[:, None, :] + kinds.size[:, None]) - needed + _MARGIN
    low = tf.math.ceil((centre[:, None, :] - reach) / kinds.stride[:, None] - 0.5)
    high = tf.math.floor((centre[:, None, :] + reach) / kinds.stride[:, None] - 0.5)
    limit = tf.cast(tf.stack([kinds.columns, kinds.rows], axis=-1), tf.float32)  # [K, 2]
    low = tf.maximum(low, 0.0)
    extent = tf.maximum(tf.minimum(high, limit - 1.0) - low + 1.0, 0.0)
    is_possible = tf.reduce_all((needed <= side + _MARGIN) & (size[:, None, :] > 0.0), axis=-1)
    extent = tf.cast(extent * tf.cast(is_possible[..., None], tf.float32), tf.int32)
    low = tf.reshape(tf.cast(low, tf.int32), [-1, 2])  # [N K, 2]
    extent = tf.reshape(extent, [-1, 2])
    ends = tf.cumsum(extent[:, 0] * extent[:, 1])
    num_pairs = tf.concat([[0], ends], axis=0)[-1]

    def is_left(start, _):
        return start < num_pairs

    def take_chunk(start, keys):
        pair = tf.range(start, tf.minimum(start + MAX_PAIRS, num_pairs))
        entry = tf.searchsorted(ends, pair, side="right")  # row of [N K]
        columns = tf.gather(extent[:, 0], entry)
        # Counted from the end of the entry, because the ends are what there is.
        local = tf.gather(ends, entry) - 1 - pair
        cell = tf.stack([local % columns, local // columns], axis=-1) + tf.gather(low, entry)  # [P, 2]
        face, kind = entry // num_kinds, entry % num_kinds
        anchors, overlap = _anchor_and_iou(tf.gather(boxes, face), cell, kind, kinds)
        overlap *= tf.gather(gain, face)
        rows = tf.gather(offset, face) + anchors
        return start + MAX_PAIRS, tf.tensor_scatter_nd_max(keys, rows[:, None], _pack(overlap, face))

    keys = tf.fill([num_keys], tf.constant(_NO_FACE, tf.int64))
    return tf.while_loop(is_left, take_chunk, (tf.constant(0), keys), parallel_iterations=1)[1]


def _claims(boxes: tf.Tensor, offset: tf.Tensor, kinds: Kinds) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the anchor that overlaps each face most, `[N, 1]`, a key above all without a claim, and the overlap."""
    centre = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    # No anchor of a kind overlaps more than the one nearest to the face's centre.
    cell = tf.cast(tf.math.ceil(centre[:, None, :] / kinds.stride[:, None]), tf.int32) - 1  # [N, K, 2]
    cell = tf.clip_by_value(cell, 0, tf.stack([kinds.columns, kinds.rows], axis=-1) - 1)
    num_faces = tf.shape(boxes)[0]
    kind = tf.range(kinds.size.shape[0])[None, :]
    anchors, overlap = _anchor_and_iou(boxes[:, None, :], cell, tf.repeat(kind, num_faces, axis=0), kinds)
    best = tf.argmax(overlap, axis=-1, output_type=tf.int32)
    overlap = tf.gather(overlap, best, batch_dims=1)
    key = _pack(overlap, tf.range(num_faces)) + _CLAIM
    # A box outside the image overlaps nothing.
    key = tf.where(overlap > 0.0, key, tf.constant(_NO_FACE, tf.int64))
    return (offset + tf.gather(anchors, best, batch_dims=1))[:, None], key, overlap


def _anchor_and_iou(boxes: tf.Tensor, cell: tf.Tensor, kind: tf.Tensor, kinds: Kinds) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns index and overlap of the anchor on a cell, (column, row), with a box; all `[...]`."""
    anchors = tf.gather(kinds.first, kind) + (cell[..., 1] * tf.gather(kinds.columns, kind) + cell[..., 0]) * kinds.step
    side = tf.gather(kinds.size, kind)[..., None]
    centre = (tf.cast(cell, tf.float32) + 0.5) * tf.gather(kinds.stride, kind)[..., None]
    shared = box.shared(boxes, tf.concat([centre - 0.5 * side, centre + 0.5 * side], axis=-1))
    size = boxes[..., 2:] - boxes[..., :2]
    union = size[..., 0] * size[..., 1] + side[..., 0] ** 2 - shared
    return anchors, tf.math.divide_no_nan(shared, union)


def _pack(overlap: tf.Tensor, face: tf.Tensor) -> tf.Tensor:
    """Makes one int64 that orders by overlap, then by lower face: bits of a positive float rise with its value."""
    high = tf.bitwise.left_shift(tf.cast(tf.bitcast(overlap, tf.int32), tf.int64), tf.constant(32, tf.int64))
    return high + tf.cast(tf.int32.max - face, tf.int64)


def _threshold(iou: float) -> int:
    """Returns the lowest key of an overlap."""
    return int(np.float32(iou).view(np.int32)) << 32


def _unpack_face(keys: tf.Tensor) -> tf.Tensor:
    return tf.int32.max - tf.cast(tf.bitwise.bitwise_and(keys, tf.constant(_LOW_WORD, tf.int64)), tf.int32)
