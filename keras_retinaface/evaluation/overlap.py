"""Overlaps between faces and detections, image by image, sparse. NumPy twins of `geometry.box` for whole data sets."""

from __future__ import annotations

import typing

import numpy as np


class Pairs(typing.NamedTuple):
    """Pairs of a face and a detection that overlap.

    Attributes:
        faces: int64 `[P]`, rows of the faces.
        detections: int64 `[P]`, rows of the detections.
        overlaps: float64 `[P]`, intersection over union.
    """

    faces: np.ndarray
    detections: np.ndarray
    overlaps: np.ndarray


def find(faces, face_offsets, detections, detection_offsets, threshold: float, *, pixel: int = 0) -> Pairs:
    """Finds the pairs within each image whose overlap reaches a threshold.

    Args:
        faces: float64 `[F, 4]`, x y width height, pixels, all images after another.
        face_offsets: int64 `[images + 1]`; image `i` owns rows `face_offsets[i]:face_offsets[i + 1]`.
        detections: float64 `[D, 4]`, as `faces`.
        detection_offsets: int64 `[images + 1]`.
        threshold: smallest overlap, more than 0.
        pixel: 1: the last pixel counts too, so that a box of w x h has (w + 1) x (h + 1) pixels, as WIDER FACE has it;
            0: as COCO has it. Each keeps the order of operations of its official code: overlaps of exactly the
            threshold occur.

    Returns:
        The pairs, image by image, within an image face by face.
    """
    found = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    is_busy = (np.diff(face_offsets) > 0) & (np.diff(detection_offsets) > 0)
    for image in np.flatnonzero(is_busy):
        f0, f1 = face_offsets[image : image + 2]
        d0, d1 = detection_offsets[image : image + 2]
        face, detection, overlap = _find_in_image(faces[f0:f1], detections[d0:d1], threshold, pixel)
        found.append(Pairs(face + f0, detection + d0, overlap))
    return Pairs(*(np.concatenate(column) for column in zip(*found)))


def _find_in_image(faces, boxes, threshold: float, pixel: int):
    x1, y1 = faces[:, None, 0], faces[:, None, 1]
    x2, y2 = x1 + faces[:, None, 2], y1 + faces[:, None, 3]
    left, top = np.ascontiguousarray(boxes[:, 0]), np.ascontiguousarray(boxes[:, 1])
    right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    width = np.minimum(x2, right) - np.maximum(x1, left) + pixel  # [faces, boxes]
    height = np.minimum(y2, bottom) - np.maximum(y1, top) + pixel
    pair = np.flatnonzero((width > 0) & (height > 0))
    face, box = np.divmod(pair, len(boxes))
    intersection = width.ravel()[pair] * height.ravel()[pair]
    if pixel:
        face_area = ((x2 - x1 + pixel) * (y2 - y1 + pixel))[:, 0]
        box_area = (right - left + pixel) * (bottom - top + pixel)
    else:
        face_area, box_area = faces[:, 2] * faces[:, 3], boxes[:, 2] * boxes[:, 3]
    overlap = intersection / (face_area[face] + box_area[box] - intersection)
    hit = overlap >= threshold
    return face[hit], box[hit], overlap[hit]
