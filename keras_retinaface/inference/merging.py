"""Brings detections from several views of an image together. NumPy only, so that every kind of model shares it."""

from __future__ import annotations

import typing
from collections.abc import Sequence

import numpy as np

from keras_retinaface.geometry import five_points, overlap
from keras_retinaface.inference import view as view_lib

# A face that ends within this many pixels of where a tile was cut is taken for cut itself.
CUT_MARGIN = 2.0


class Detections(typing.NamedTuple):
    """Faces of one image or view; in evaluation float64, since texts from elsewhere have more digits.

    Attributes:
        boxes: float32 `[N, 4]`, xyxy, pixels.
        scores: float32 `[N]`.
        landmarks: float32 `[N, 5, 2]`, pixels; None where boxes are all that is known.
        dense: float32 `[N, 148]`, of `decoding.decode`, or None without meshes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray | None
    dense: np.ndarray | None = None

    def select(self, rows: np.ndarray) -> Detections:
        """Takes some faces, by index or mask."""
        return Detections(*(None if array is None else array[rows] for array in self))


def empty() -> Detections:
    """Returns the detections of an image without faces."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def to_image(detections: Detections, view: view_lib.View) -> Detections:
    """Carries detections from a view's picture into its image, without those that the edge of a tile cut.

    A cut face is whole in the neighbouring tile, or too large for any tile and found in the view of the whole image.

    Args:
        detections: detections, in pixels of the picture.
        view: view that the picture shows.

    Returns:
        Detections in pixels of the image.
    """
    boxes, scores, landmarks = (np.asarray(part, np.float32) for part in detections[:3])
    dense = detections.dense
    if view.is_flipped:
        width = np.float32(view.input_size[1])
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        landmarks = landmarks[:, five_points.MIRRORED, :]
        landmarks = np.stack([width - landmarks[..., 0], landmarks[..., 1]], axis=-1)
    left, top, right, bottom = view.rectangle
    factor = np.array([(right - left) / view.input_size[1], (bottom - top) / view.input_size[0]], np.float32)
    corner = np.array([left, top], np.float32)
    boxes = boxes * np.tile(factor, 2) + np.tile(corner, 2)
    if dense is not None:
        if view.is_flipped:
            raise ValueError("meshes cannot be taken from a mirrored view")
        dense = np.concatenate([dense[:, :4] * np.tile(factor, 2) + np.tile(corner, 2), dense[:, 4:]], axis=1)
    found = Detections(boxes, scores, landmarks * factor + corner, dense)
    return found if view.is_whole else found.select(~_is_cut(boxes, view, CUT_MARGIN * factor))


def merge(parts: Sequence[Detections], iou_threshold: float, *, use_voting: bool = False) -> Detections:
    """Merges the detections of several views of an image, each free of duplicates already.

    Args:
        parts: detections of the views, in pixels of the image.
        iou_threshold: two detections that overlap more are one face.
        use_voting: whether the face is the mean of its detections weighted by score (landmarks too), with the best
            score, or just the best detection.

    Returns:
        Detections, best first. Those of a single view come back as they are.

    Raises:
        ValueError: if a part's arrays do not have equally many rows.
    """
    for part in parts:
        if not len(part.boxes) == len(part.scores) == len(part.landmarks):
            raise ValueError(
                f"`parts` must have equally many rows. Received: {[np.shape(array) for array in part[:3]]}"
            )
    parts = [part for part in parts if len(part.boxes)] or [empty()]
    together = Detections(*(None if arrays[0] is None else np.concatenate(arrays) for arrays in zip(*parts)))
    together = together.select(np.argsort(-together.scores, kind="stable"))
    if len(parts) > 1:
        leaders = _leaders(together.boxes, iou_threshold)
        together = _vote(together, leaders) if use_voting else together.select(leaders == np.arange(len(leaders)))
    return together


def is_large_enough(boxes: np.ndarray, min_face: float) -> np.ndarray:
    """Tells which boxes have a shorter side of at least `min_face` pixels.

    Args:
        boxes: float `[N, 4]`, xyxy, pixels.
        min_face: pixels.

    Returns:
        bool `[N]`.
    """
    return np.min(boxes[:, 2:] - boxes[:, :2], axis=1) >= min_face


def _is_cut(boxes, view: view_lib.View, margin) -> np.ndarray:
    # Only where the tile ends inside the image; at the image's own edge every view cuts alike.
    left, top, right, bottom = view.rectangle
    height, width = view.image_size
    return (
        ((left > 0) & (boxes[:, 0] < left + margin[0]))
        | ((top > 0) & (boxes[:, 1] < top + margin[1]))
        | ((right < width) & (boxes[:, 2] > right - margin[0]))
        | ((bottom < height) & (boxes[:, 3] > bottom - margin[1]))
    )


def _leaders(boxes, iou_threshold: float) -> np.ndarray:
    # For boxes sorted by score: the row of the kept box that each falls to, its own row if it is kept.
    boxes = np.asarray(boxes, np.float32)
    leaders, free = np.arange(len(boxes)), np.arange(len(boxes))
    while free.size:
        best, others = free[0], free[1:]
        shared, union = overlap.measure(boxes[best], boxes[others])
        is_same = shared > iou_threshold * union
        leaders[others[is_same]] = best
        free = others[~is_same]
    return leaders


def _vote(detections: Detections, leaders) -> Detections:
    # Score-weighted means over the members of each leader, in float64; a face that only one view found stays as it is.
    kept, group, count = np.unique(leaders, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    weights = np.maximum(detections.scores.astype(np.float64), np.finfo(np.float32).tiny)
    values = np.concatenate([detections.boxes, detections.landmarks.reshape(len(leaders), -1)], axis=1)
    sums = np.stack([np.bincount(group, weights * column) for column in values.T.astype(np.float64)], axis=1)
    means = (sums / np.bincount(group, weights)[:, None]).astype(np.float32)
    means = np.where((count > 1)[:, None], means, values[kept])
    # A mesh is the best detection's: means of codes would stand for another face, seen from another anchor.
    dense = None if detections.dense is None else detections.dense[kept]
    return Detections(means[:, :4], detections.scores[kept], means[:, 4:].reshape(-1, 5, 2), dense)
