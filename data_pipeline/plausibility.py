"""Tells annotations that cannot be meant by all their boxes together; no TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import logging

from data_pipeline import record as record_lib

# A coordinate up to this may be a share of the image; some boxes reach a little past its edge.
_LARGEST_SHARE = 2.0
# Part of the image's side that a face may hang out; no annotator draws half of the faces so.
_OUTSIDE = 0.1
_MOST_LEAVING = 0.5
# Part of the boxes that must be corners inside their image before they are taken for such.
_CORNERS = 0.95
_FEW = 10


def check(records: Sequence[record_lib.Record], sizes: Sequence[np.ndarray]) -> None:
    """Looks at all faces of a set that are not ignored.

    Args:
        records: records of the whole set.
        sizes: (width, height) of each image, pixels.

    Raises:
        ValueError: if there is no face at all, or the boxes are shares of their image, or corners.
    """
    if not records:
        return
    num_all = sum(record.num_faces for record in records)
    boxes = np.concatenate([record.boxes[~record.is_ignored] for record in records])
    where = records[0].where.rsplit(":", 1)[0] or "annotations"
    if not len(boxes):
        received = f"{len(records)} images with {num_all} boxes, all ignored" if num_all else f"{len(records)} images"
        raise ValueError(f"{where}: expected at least one face that is not ignored. Received: {received}")
    if np.abs(boxes).max() <= _LARGEST_SHARE:
        raise ValueError(
            f"{where}: expected boxes in pixels; these look like shares of their image. "
            f"Received: {len(boxes)} boxes, no coordinate over {np.abs(boxes).max():.3g}"
        )
    size = np.repeat(
        np.asarray(sizes, np.float64).reshape(-1, 2), [int((~record.is_ignored).sum()) for record in records], axis=0
    )
    is_leaving = (boxes[:, 2:] > size * (1 + _OUTSIDE)).any(axis=1) | (boxes[:, :2] < -size * _OUTSIDE).any(axis=1)
    if is_leaving.mean() <= _MOST_LEAVING:
        return
    corners = boxes[:, 2:] - boxes[:, :2]  # what was read as width and height
    is_corner = ((boxes[:, :2] < corners) & (corners <= size + 1)).all(axis=1)
    told = f"{int(is_leaving.sum())} of {len(boxes)} boxes leave their image"
    if is_corner.mean() >= _CORNERS and len(boxes) >= _FEW:
        raise ValueError(f"{where}: expected x y width height; these look like x1 y1 x2 y2. Received: {told}")
    hint = "; they look like corners, x1 y1 x2 y2" if is_corner.mean() >= _CORNERS else ""
    logging.warning("%s: expected x y width height in pixels. Received: %s%s", where, told, hint)
