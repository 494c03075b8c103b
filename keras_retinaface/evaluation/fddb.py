"""FDDB: faces as ellipses, discrete and continuous ROC, by the pixel masks of the official program."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import cv2
import numpy as np

from keras_retinaface.evaluation import prediction
from keras_retinaface.formats import annotation_text
from keras_retinaface.inference import merging

RECTANGLE_COLUMNS, ELLIPSE_COLUMNS = 5, 6
# The discrete score counts a pair that overlaps by more than this.
MIN_OVERLAP = 0.5


@dataclasses.dataclass(frozen=True)
class Roc:
    """Both curves, from the strictest score on.

    Attributes:
        false_positives: int64 `[T]`, detections that are no face, over all images.
        discrete: float64 `[T]`, share of the faces whose assigned detection overlaps by more than one half.
        continuous: float64 `[T]`, summed overlaps of assigned pairs over the number of faces.
        scores: float64 `[T]`, thresholds.
    """

    false_positives: np.ndarray
    discrete: np.ndarray
    continuous: np.ndarray
    scores: np.ndarray

    def at(self, false_positives: int) -> tuple[float, float]:
        """Returns (discrete, continuous) at the last threshold with no more false positives; papers quote 1,000."""
        within = np.flatnonzero(self.false_positives <= false_positives)
        return (float(self.discrete[within[-1]]), float(self.continuous[within[-1]])) if within.size else (0.0, 0.0)


def read_ellipses(directory: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the annotation of the folds.

    Args:
        directory: holds `FDDB-fold-*-ellipseList.txt`.

    Returns:
        Image path without `.jpg` -> float64 `[n, 5]`: two radii (pixels), angle (radians), centre x and y (pixels).

    Raises:
        FileNotFoundError: if there is no fold.
        ValueError: `file:line` and what is wrong there.
    """
    paths = sorted(pathlib.Path(directory).glob("FDDB-fold-*-ellipseList.txt"))
    if not paths:
        raise FileNotFoundError(f"no FDDB-fold-*-ellipseList.txt in {directory}")
    faces: dict[str, np.ndarray] = {}
    for path in paths:
        for name, rows in _read_blocks(path, (ELLIPSE_COLUMNS,)).items():
            if name in faces:
                raise ValueError(f"{path}: expected every image in one fold. Received: {annotation_text.shorten(name)}")
            faces[name] = rows[:, :5]
    return faces


def read_detections(path: str | os.PathLike) -> dict[str, merging.Detections | np.ndarray]:
    """Reads detections in the official format: name, count, then rows of `x y width height score`, or of ellipses.

    Returns:
        Image path without `.jpg` -> detections, or float64 `[n, 6]` of ellipses: radii, angle, centre, score.

    Raises:
        ValueError: `file:line` and what is wrong there.
    """
    blocks = _read_blocks(path, (RECTANGLE_COLUMNS, ELLIPSE_COLUMNS))
    return {
        name: rows if rows.shape[1] == ELLIPSE_COLUMNS else prediction.of_rows(rows) for name, rows in blocks.items()
    }


def evaluate(
    detections: Mapping[str, merging.Detections | np.ndarray],
    faces: Mapping[str, np.ndarray],
    image_sizes: Mapping[str, tuple[int, int]],
) -> Roc:
    """Computes the curves.

    Args:
        detections: as from `read_detections`; an image that is not there has none.
        faces: as from `read_ellipses`.
        image_sizes: (height, width) of every image, pixels: what lies outside has no pixels.

    Returns:
        One point per different score.
    """
    steps = [np.zeros((0, 4))]
    for name, ellipses in faces.items():
        found = detections.get(name, merging.empty())
        scores = found.scores if isinstance(found, merging.Detections) else found[:, -1]
        if len(scores):
            steps.append(_image_steps(scores, overlaps(found, ellipses, image_sizes[name])))
    steps = np.concatenate(steps)
    steps = steps[np.argsort(-steps[:, 0], kind="stable")]
    is_last = np.append(np.diff(steps[:, 0]) != 0, True)[: len(steps)]
    totals = np.cumsum(steps[:, 1:], axis=0)[is_last]
    num_faces = max(1, sum(len(ellipses) for ellipses in faces.values()))
    # Rounded: sums of whole steps up and down drift by some 1e-12.
    return Roc(
        false_positives=np.rint(totals[:, 2]).astype(np.int64),
        discrete=np.rint(totals[:, 0]) / num_faces,
        continuous=totals[:, 1] / num_faces,
        scores=steps[is_last, 0],
    )


def overlaps(found: merging.Detections | np.ndarray, ellipses: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Computes intersection over union of pixel masks.

    Args:
        found: detections (rectangles) or float64 `[D, 6]` (ellipses), whose last column is not looked at.
        ellipses: float64 `[F, 5]`.
        image_size: (height, width), pixels.

    Returns:
        float64 `[D, F]`.
    """
    corners = _corners(found.boxes, image_size) if isinstance(found, merging.Detections) else None
    result = np.zeros((len(found if corners is None else found.boxes), len(ellipses)))
    for face, ellipse in enumerate(ellipses):
        mask = _mask(ellipse, image_size)
        if corners is None:
            others = [_mask(row, image_size) for row in found]
            shared = np.array([np.count_nonzero(mask & other) for other in others])
            area = np.array([np.count_nonzero(other) for other in others])
        else:
            x1, y1, x2, y2 = corners
            sums = cv2.integral(mask).astype(np.int64)
            shared = sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]
            area = (x2 - x1) * (y2 - y1)
        union = area + np.count_nonzero(mask) - shared
        result[:, face] = np.where(shared > 0, shared / np.maximum(union, 1), 0.0)
    return result


def _image_steps(scores, overlap) -> np.ndarray:
    import scipy.optimize  # an extra: nothing else of the evaluation needs it

    # How the image's three counts change at each of its scores: [scores, (score, discrete, continuous, false)].
    steps, before = [], np.zeros(3)
    for score in np.unique(scores)[::-1]:
        kept = overlap[scores >= score]
        pairs = scipy.optimize.linear_sum_assignment(kept, maximize=True)
        assigned = kept[pairs]
        found = np.count_nonzero(assigned > MIN_OVERLAP)
        after = np.array([found, assigned.sum(), len(kept) - found])
        steps.append([score, *(after - before)])
        before = after
    return np.array(steps)


def _mask(ellipse, image_size) -> np.ndarray:
    # uint8 0 or 1. The official program draws with whole numbers: radii cut, centre rounded.
    mask = np.zeros(image_size, np.uint8)
    first, second, angle, x, y = ellipse[:5]
    centre = (int(np.floor(x + 0.5)), int(np.floor(y + 0.5)))
    cv2.ellipse(mask, centre, (int(first), int(second)), float(np.degrees(angle)), 0, 360, 1, -1)
    return mask


def _corners(boxes, image_size) -> tuple[np.ndarray, ...]:
    # Rounded, the last pixel included, cut to the image: x1, y1 and, one past the end, x2, y2.
    height, width = image_size
    first = np.floor(boxes[:, :2] + 0.5).astype(np.int64)
    last = np.floor(boxes[:, 2:] + 0.5).astype(np.int64) + 1
    limit = np.array([width, height])
    first, last = np.clip(first, 0, limit), np.clip(last, 0, limit)
    return first[:, 0], first[:, 1], np.maximum(first, last)[:, 0], np.maximum(first, last)[:, 1]


def _read_blocks(path, columns: tuple[int, ...]) -> dict[str, np.ndarray]:
    lines = annotation_text.read(path).split("\n")
    blocks, number = {}, 0
    while number < len(lines):
        name = lines[number].strip()
        number += 1
        if not name:
            continue
        if expected := annotation_text.name_fault(name):
            annotation_text.fail(f"{path}:{number}", expected, name)
        stem = name.removesuffix(".jpg")
        if stem in blocks:
            annotation_text.fail(f"{path}:{number}", "every image once", name)
        count = annotation_text.whole(_line(lines, number).strip())
        if count is None:
            expected = f"the number of rows of {annotation_text.cut(name)}"
            annotation_text.fail(f"{path}:{number + 1}", expected, _line(lines, number))
        rows = []
        for line in range(number + 1, number + 1 + count):
            row = annotation_text.numbers(_line(lines, line))
            if row is None or len(row) not in ((len(rows[0]),) if rows else columns):
                expected = f"{' or '.join(map(str, columns))} numbers, as many in every row"
                annotation_text.fail(f"{path}:{line + 1}", expected, _line(lines, line))
            if len(row) == ELLIPSE_COLUMNS and min(row[:2]) < 0:
                annotation_text.fail(f"{path}:{line + 1}", "radii of 0 and more", _line(lines, line))
            rows.append(row)
        blocks[stem] = rows
        number += 1 + count
    return {name: np.array(rows, np.float64) if rows else np.zeros((0, columns[0])) for name, rows in blocks.items()}


def _line(lines: list[str], index: int) -> str:
    return lines[index] if index < len(lines) else "the end of the file"
