"""Pairs of faces and detections of whole data sets, image by image, sparse; what boxes share: `geometry.overlap`."""

from __future__ import annotations

import typing

import numpy as np

from keras_retinaface.geometry import overlap


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


def find(faces, face_offsets, boxes, offsets, threshold: float, *, pixel: int = 0) -> Pairs:
    """Finds the pairs within each image whose overlap reaches a threshold.

    Args:
        faces: float64 `[F, 4]`, xyxy, pixels, all images after another.
        face_offsets: int64 `[images + 1]`; image `i` owns rows `face_offsets[i]:face_offsets[i + 1]`.
        boxes: float64 `[D, 4]`, detections, as `faces`.
        offsets: int64 `[images + 1]`, of the detections.
        threshold: smallest overlap, more than 0.
        pixel: as for `overlap.measure`: 1 for WIDER FACE, 0 for COCO.

    Returns:
        The pairs, image by image, within an image face by face.
    """
    found = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    is_busy = (np.diff(face_offsets) > 0) & (np.diff(offsets) > 0)
    for image in np.flatnonzero(is_busy):
        first_face, end_face = face_offsets[image : image + 2]
        first, end = offsets[image : image + 2]
        shared, union = overlap.measure(faces[first_face:end_face, None], boxes[None, first:end], pixel=pixel)
        pair = np.flatnonzero(shared > 0)  # few of all
        overlaps = shared.ravel()[pair] / union.ravel()[pair]
        is_near = overlaps >= threshold
        face, row = np.divmod(pair[is_near], end - first)
        found.append(Pairs(face + first_face, row + first, overlaps[is_near]))
    return Pairs(*(np.concatenate(column) for column in zip(*found)))
