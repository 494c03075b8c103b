"""Smaller views of large images, and which view answers for faces of which size. NumPy and OpenCV only.

A face larger than the largest anchor is seen as a heap of faces: eyes, mouths, ears. A view of a quarter of the size
shows it as a face, and costs a sixteenth of the time. Figures in docs/benchmarks.md, `benchmarks.face_sizes`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from keras_retinaface.geometry import overlap
from keras_retinaface.inference import merging
from keras_retinaface.inference import view as view_lib

# Long side in pixels of a picture that shows no face larger than the network sees well.
ENOUGH = 640
_SHRINK = 4
# Longer side, in pixels of the picture, of faces that a view leaves to the next smaller one, which sees them well too;
# up to `_BAND` times this and from this over `_BAND` both views answer, so that no face falls between them.
LARGE = 320.0
_BAND = 1.25
# Overlap from which on the smaller view shows the same face.
_SAME_IOU = 0.3
# Share of a box that lies inside a larger face when it is a part of that face.
_PART = 0.7
# What a magnified or blurred picture lacks: pixels that its half size does not give back. Mean of the grey levels that
# are lost, and their ratio to those that a quarter loses; of the faces of WIDER FACE under one in a hundred has less.
_LEAST_LOSS, _LEAST_RATIO = 0.6, 0.245
# Longer side in pixels of the picture from which on detail is asked for; in photos of three and more views from 0 on.
_DOUBTED = 64.0


def plan(views: Sequence[view_lib.View], fit: float = 1.0) -> list[view_lib.View]:
    """Adds smaller views of the whole image, until one shows every face small enough, and tells each its face sizes.

    Args:
        views: views of an image at one scale, and of the whole of it if that scale cuts tiles.
        fit: factor from pixels of a view's picture to pixels that the network sees.

    Returns:
        `views`, then the smaller ones; mirrored too if one of `views` is. Just `views` if they show enough.
    """
    image_size = views[0].image_size
    factors = sorted({view.scale for view in views}, reverse=True)
    first_added = len(factors)
    while max(image_size) * factors[-1] * fit > ENOUGH:
        factors.append(factors[-1] / _SHRINK)
    if len(factors) == 1:
        return list(views)
    planned = [_ranged(view, factors.index(view.scale), factors, fit, has_low=False) for view in views]
    for level in range(first_added, len(factors)):
        view = _ranged(view_lib.whole(image_size, factors[level] * fit), level, factors, fit, has_low=True)
        planned += [view, dataclasses.replace(view, is_flipped=True)] if any(v.is_flipped for v in views) else [view]
    return planned


def has_large(views: Sequence[view_lib.View], parts: Sequence[merging.Detections | None]) -> bool:
    """Tells whether those views that have run show a face that a smaller view may see better."""
    limits = (view.face_sizes[1] / _BAND**2 for view in views)
    shown = ((part, limit) for part, limit in zip(parts, limits) if part is not None)
    return any(np.any(_sides(part.boxes) >= limit) for part, limit in shown)


def choose(
    image: np.ndarray, views: Sequence[view_lib.View], parts: Sequence[merging.Detections | None]
) -> list[merging.Detections]:
    """Takes from each view the faces of the sizes that it answers for, without parts of larger faces and ghosts.

    A face that the next smaller view shows too is neither. A ghost is what the network sees in a magnified picture of
    anything; smaller views do not show it.

    Args:
        image: uint8 `[H, W, 3]`.
        views: views from `plan`.
        parts: what was found in each, in pixels of the image; None for views that have not run.

    Returns:
        The parts, with fewer faces; as they are if only the first views have run.
    """
    num_levels = 1 + max(view.level for view in views)
    if num_levels == 1 or any(part is None for part in parts):
        return [part for part in parts if part is not None]
    chosen: list = [None] * len(views)
    larger = np.zeros((0, 5), np.float32)  # boxes and scores of chosen faces of smaller views
    next_boxes = np.zeros((0, 4), np.float32)
    for level in reversed(range(num_levels)):
        rows = [row for row, view in enumerate(views) if view.level == level]
        for row in rows:
            boxes, scores = parts[row].boxes, parts[row].scores
            side, (low, high) = _sides(boxes), views[row].face_sizes
            is_chosen = (low <= side) & (side < high)
            if level < num_levels - 1:
                is_seen = np.any(overlap.iou(boxes, next_boxes) > _SAME_IOU, axis=1)
                is_chosen &= is_seen | ~_is_part(boxes, scores, larger)
                doubted_from = _DOUBTED / views[row].scale if num_levels == 2 else 0.0
                for index in np.flatnonzero(is_chosen & ~is_seen & (side >= doubted_from)):
                    is_chosen[index] = _has_detail(image, boxes[index], views[row].scale)
            chosen[row] = parts[row].select(is_chosen)
        larger = np.concatenate([larger, *(np.c_[chosen[row].boxes, chosen[row].scores] for row in rows)])
        next_boxes = np.concatenate([np.zeros((0, 4), np.float32), *(parts[row].boxes for row in rows)])
    return chosen


def _ranged(view, level: int, factors, fit: float, *, has_low: bool) -> view_lib.View:
    # Sizes in pixels of the image.
    low = LARGE / (factors[level - 1] * fit) / _BAND if has_low else 0.0
    high = LARGE / (factors[level] * fit) * _BAND if level < len(factors) - 1 else math.inf
    return dataclasses.replace(view, level=level, face_sizes=(low, high))


def _sides(boxes) -> np.ndarray:
    return np.max(boxes[:, 2:] - boxes[:, :2], axis=1)


def _is_part(boxes, scores, larger) -> np.ndarray:
    # Only of a face that is as sure, as in suppression: a doubtful one over a crowd takes nobody away.
    is_larger = _sides(larger[:, :4])[None] > 1.5 * _sides(boxes)[:, None]
    is_surer = larger[None, :, 4] >= scores[:, None]
    return np.any(is_larger & is_surer & (overlap.share(boxes, larger[:, :4]) >= _PART), axis=1)


def _has_detail(image, box, scale: float) -> bool:
    """Tells whether a part of an image, at a scale, shows more than at half that scale."""
    margin = 8 / scale
    left, top = (int(max(0, side - margin)) for side in box[:2])
    right, bottom = (int(min(end, side + margin)) for side, end in zip(box[2:], image.shape[1::-1]))
    if min(right - left, bottom - top) * scale < 8:
        return True
    grey = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
    # A multiple of four, so that pixels fall into whole groups.
    width, height = (int((end - start) * min(scale, 1.0)) // 4 * 4 for start, end in ((left, right), (top, bottom)))
    if scale < 1:
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    grey = grey[:height, :width].astype(np.float32)

    def loss(factor):
        small = cv2.resize(grey, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
        return float(np.mean(np.abs(grey - cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))))

    half = loss(2)
    return half >= _LEAST_LOSS and half >= _LEAST_RATIO * loss(4)
