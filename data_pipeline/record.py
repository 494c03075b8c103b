"""One image's annotation, and what becomes of bad data; no TensorFlow here."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from absl import logging

from keras_retinaface.formats import annotation_text
from keras_retinaface.geometry import overlap

FAIL = "fail"
SKIP = "skip"
ON_BAD_DATA = (FAIL, SKIP)

# Enough to see what is wrong; a file in another format would give one line a row.
_MOST_LOGGED = 20
# Two files draw the same face a little differently at most: rounding and clipping.
_SAME_FACE_IOU = 0.5


@dataclasses.dataclass(frozen=True)
class Record:
    """The faces of one image.

    Attributes:
        image: path relative to the folder of images.
        boxes: float32 `[N, 4]`, xyxy, pixels. Width and height may be zero, not negative.
        landmarks: float32 `[N, 5, 2]`, pixels; zero where not visible.
        landmark_visible: bool `[N, 5]`, whether a point is labelled and may be learnt, seen or guessed by an annotator.
        is_ignored: bool `[N]`, faces that are neither learnt nor background.
        where: `file:line` of the annotation, for messages.
        size: (width, height) of the image as the annotation says it, pixels; None where it does not.
    """

    image: str
    boxes: np.ndarray
    landmarks: np.ndarray
    landmark_visible: np.ndarray
    is_ignored: np.ndarray
    where: str = ""
    size: tuple[int, int] | None = None

    @property
    def num_faces(self) -> int:
        """Faces, ignored ones too."""
        return len(self.boxes)


def make(image: str, faces: list[Face], where: str = "") -> Record:
    """Builds a record from a list of faces; one without area is kept and ignored."""
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return Record(
        image=image,
        boxes=boxes,
        landmarks=np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2),
        landmark_visible=np.array([face.visible for face in faces], bool).reshape(-1, 5),
        is_ignored=np.array([face.is_ignored for face in faces], bool) | ~has_area,
        where=where,
    )


@dataclasses.dataclass(frozen=True)
class Face:
    """One row of an annotation file: a box (xyxy), five points, which of them count, whether to ignore the face."""

    box: tuple[float, ...]
    landmarks: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 5
    visible: tuple[bool, ...] = (False,) * 5
    is_ignored: bool = False


class BadData:
    """Decides on faults: raises at the first, or counts them, to be reported at the end.

    Attributes:
        faults: messages so far.
        num_skipped: images left out because of them.
    """

    def __init__(self, on_bad_data: str = FAIL):
        if on_bad_data not in ON_BAD_DATA:
            raise ValueError(f"`on_bad_data` must be one of {ON_BAD_DATA}. Received: on_bad_data={on_bad_data!r}")
        self._fails = on_bad_data == FAIL
        self.faults: list[str] = []
        self.num_skipped = 0
        self.left_out: dict[str, str] = {}

    @property
    def skips(self) -> bool:
        """Whether a fault costs its image and not the run."""
        return not self._fails

    def leave_out(self, image: str, fault: str) -> None:
        """Takes note of an image that was found damaged in the middle of a run, once."""
        if image in self.left_out:
            return
        self.left_out[image] = fault
        if len(self.left_out) <= _MOST_LOGGED:
            logging.warning("%s: expected a whole image. Received: %s; going on without it", image, fault)

    def report_left_out(self) -> None:
        """Logs which images were found damaged in the middle of a run; silent when none was."""
        if self.left_out:
            names = ", ".join(list(self.left_out)[:_MOST_LOGGED])
            more = ", ..." if len(self.left_out) > _MOST_LOGGED else ""
            logging.warning("%d images could not be decoded and were left out: %s%s", len(self.left_out), names, more)

    def add(self, where: str, expected: str, received: object) -> None:
        """Takes note of a fault.

        Args:
            where: `file:line`, or a path.
            expected: what should stand there.
            received: what does.

        Raises:
            ValueError: if bad data is not to be skipped.
        """
        message = f"{where}: expected {expected}. Received: {annotation_text.shorten(received)}"
        if self._fails:
            raise ValueError(message)
        self.faults.append(message)
        if len(self.faults) <= _MOST_LOGGED:
            logging.warning("%s", message)
        elif len(self.faults) == _MOST_LOGGED + 1:
            logging.warning("further faults are only counted")

    def report(self, num_kept: int) -> None:
        """Logs how much was left out; silent when nothing was."""
        if self.faults:
            logging.warning(
                "skipped %d of %d images for %d faults; the first: %s",
                self.num_skipped,
                self.num_skipped + num_kept,
                len(self.faults),
                self.faults[0],
            )


def join_landmarks(records: list[Record], others: list[Record]) -> list[Record]:
    """Takes boxes from one set of records and landmarks from another.

    A face takes the points of the face in the same row when the two boxes agree, else those of the box it overlaps
    most, each at most once. Faces and images without a partner keep no landmarks; how many is logged.

    Args:
        records: whose images, boxes and ignored faces are kept.
        others: whose landmarks are taken, by the name of the image.

    Returns:
        The records with landmarks.
    """
    by_image = {other.image: other for other in others}
    joined, num_found, num_alone = [], 0, 0
    for record in records:
        other = by_image.pop(record.image, None)
        if other is None:
            num_alone += 1
            other = make(record.image, [])
        rows = _pair(record.boxes, other.boxes)
        found = rows >= 0
        landmarks = np.zeros_like(record.landmarks)
        visible = np.zeros_like(record.landmark_visible)
        landmarks[found], visible[found] = other.landmarks[rows[found]], other.landmark_visible[rows[found]]
        num_found += int(visible.any(axis=1).sum())
        joined.append(dataclasses.replace(record, landmarks=landmarks, landmark_visible=visible))
    logging.info(
        "joined landmarks to %d of %d faces; %d images have none, %d images of the second file are not in the first",
        num_found,
        sum(record.num_faces for record in records),
        num_alone,
        len(by_image),
    )
    return joined


def check_duplicates(records: list[Record], bad_data: BadData) -> list[Record]:
    """Leaves out an image that stands in the annotations again."""
    first: dict[str, str] = {}
    kept = []
    for record in records:
        name = os.path.normpath(record.image)
        if name in first:
            bad_data.add(record.where, f"every image once; first at {first[name]}", record.image)
            bad_data.num_skipped += 1
        else:
            first[name] = record.where
            kept.append(record)
    return kept


def _pair(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the row in `others` of each box, -1 where there is none."""
    if len(boxes) == len(others) and np.allclose(boxes, others, atol=1.0):
        return np.arange(len(boxes))
    rows = np.full(len(boxes), -1)
    if len(boxes) and len(others):
        iou = overlap.iou(boxes, others)
        for flat in np.argsort(-iou, axis=None, kind="stable"):
            row, other = divmod(int(flat), len(others))
            if iou[row, other] < _SAME_FACE_IOU:
                break
            if rows[row] < 0 and other not in rows:
                rows[row] = other
    return rows
