"""Errors of five landmarks, by the size of the face. Reading annotations is in `annotation`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_retinaface.evaluation import annotation as annotation_lib
from keras_retinaface.evaluation import pairing
from keras_retinaface.geometry import five_points
from keras_retinaface.inference import merging

# A face is failed when its mean error is more than this share of its size.
FAILURE = 0.1
# Face sizes, sqrt(width x height), pixels: from each bound up to the next.
SIZES = (0, 16, 32, 64, 128, 256)
# Overlap from which a detection may be that of a face; enough even for dlib's boxes, which stop at the brows.
MIN_OVERLAP = 0.5


@dataclasses.dataclass(frozen=True)
class Result:
    """Errors of the annotated faces.

    Attributes:
        errors: float64 `[F, 5]`, distance over sqrt(width x height) of the annotated box; NaN where a point is not
            annotated, and for every point of a face without a detection.
        sizes: float64 `[F]`, sqrt(width x height), pixels.
        is_matched: bool `[F]`, whether a detection belongs to the face.
    """

    errors: np.ndarray
    sizes: np.ndarray
    is_matched: np.ndarray

    @property
    def face_errors(self) -> np.ndarray:
        """float64 `[F]`, mean over the points; infinite for a face without a detection."""
        means = np.full(len(self.errors), np.inf)
        means[self.is_matched] = _mean(self.errors[self.is_matched], axis=1)
        return means

    def summarise(self) -> dict:
        """Returns plain numbers, ready for JSON; None where there is nothing to average.

        `nme` and what is said by point are means over the faces that have a detection; `failure_rate` and `auc` are
        over all faces, and one without a detection has failed; `failure_rate_matched` leaves those out.
        """
        errors = self.face_errors
        matched = errors[self.is_matched]
        bounds = [*SIZES, np.inf]
        by_size = {}
        for low, high in zip(bounds, bounds[1:]):
            is_in = (self.sizes >= low) & (self.sizes < high)
            if is_in.any():
                by_size[f"{low}-{high}" if np.isfinite(high) else f"{low}+"] = {
                    "faces": int(is_in.sum()),
                    "unmatched": int((is_in & ~self.is_matched).sum()),
                    "nme": _number(_mean(errors[is_in & self.is_matched])),
                    "failure_rate": _number((errors[is_in] > FAILURE).mean()),
                }
        return {
            "nme": _number(_mean(matched)),
            "failure_rate": _number(_mean(errors > FAILURE)),
            "failure_rate_matched": _number(_mean(matched > FAILURE)),
            "auc": _number(area_under_cumulative(errors)),
            "faces": len(errors),
            "unmatched": int((~self.is_matched).sum()),
            "by_point": {name: _number(_mean(column)) for name, column in zip(five_points.NAMES, self.errors.T)},
            "by_size": by_size,
        }


def evaluate(
    detections: Mapping[str, merging.Detections],
    annotations: Sequence[annotation_lib.Annotation],
    *,
    min_overlap: float = MIN_OVERLAP,
) -> Result:
    """Measures the landmarks of detections on annotated faces.

    Args:
        detections: detections by image, with landmarks; an image that is not there has none.
        annotations: annotations of the images. Faces without any annotated point take part in the matching, so that
            their detections do not go to a neighbour, and in nothing else.
        min_overlap: smallest IoU between a face and its detection.

    Returns:
        The errors of every face with an annotated point.
    """
    errors, sizes, is_matched = [np.zeros((0, 5))], [np.zeros(0)], [np.zeros(0, bool)]
    for annotation in annotations:
        found_in_image = detections.get(annotation.image, merging.empty())
        match = match_boxes(annotation.boxes, np.asarray(found_in_image.boxes, np.float64), min_overlap)
        size = np.sqrt(np.prod(np.maximum(annotation.boxes[:, 2:] - annotation.boxes[:, :2], 0), axis=1))
        image_errors = np.full((len(match), 5), np.nan)
        found = match >= 0
        landmarks = np.asarray(found_in_image.landmarks)[match[found]]
        distance = np.linalg.norm(landmarks - annotation.landmarks[found], axis=-1)
        image_errors[found] = distance / np.maximum(size[found], np.finfo(np.float64).tiny)[:, None]
        is_annotated = np.isfinite(annotation.landmarks).all(axis=2).any(axis=1) & (size > 0)
        errors.append(image_errors[is_annotated])
        sizes.append(size[is_annotated])
        is_matched.append(found[is_annotated])
    return Result(np.concatenate(errors), np.concatenate(sizes), np.concatenate(is_matched))


def match_boxes(faces: np.ndarray, boxes: np.ndarray, min_overlap: float) -> np.ndarray:
    """Pairs faces with detections, the largest overlaps first, each at most once.

    Args:
        faces: float64 `[F, 4]`, xyxy, pixels.
        boxes: float64 `[D, 4]`, xyxy, pixels.
        min_overlap: smallest IoU of a pair.

    Returns:
        int64 `[F]`, the row of the detection, or -1.
    """
    match = np.full(len(faces), -1, np.int64)
    pairs = pairing.find(faces, np.array([0, len(faces)]), boxes, np.array([0, len(boxes)]), min_overlap)
    is_free = np.ones(len(boxes), bool)
    for pair in np.argsort(-pairs.overlaps, kind="stable"):
        face, box = pairs.faces[pair], pairs.detections[pair]
        if match[face] < 0 and is_free[box]:
            match[face] = box
            is_free[box] = False
    return match


def cumulative(errors: np.ndarray, *, limit: float = FAILURE, num: int = 101) -> tuple[np.ndarray, np.ndarray]:
    """Computes the cumulative error curve.

    Args:
        errors: float `[F]`, of the faces; infinite for those without a detection.
        limit: where the curve ends.
        num: points of the curve.

    Returns:
        Errors from 0 to `limit`, and the share of faces whose error is not larger, float64 `[num]` each.
    """
    x = np.linspace(0.0, limit, num)
    return x, np.searchsorted(np.sort(errors), x, side="right") / max(1, len(errors))


def area_under_cumulative(errors: np.ndarray, *, limit: float = FAILURE) -> float:
    """Integrates the cumulative error curve exactly, from 0 to `limit`, over `limit`; NaN without faces."""
    # A face of error e lies under the curve from e to the limit.
    return float(_mean(np.maximum(limit - np.asarray(errors), 0.0) / limit))


def _mean(values, axis=None) -> np.ndarray:
    # Mean over what is not NaN; NaN where nothing is left, without NumPy's warning.
    is_number = ~np.isnan(values)
    count = is_number.sum(axis=axis)
    total = np.where(is_number, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _number(value) -> float | None:
    return float(value) if np.isfinite(value) else None
