"""Annotations of five landmarks: RetinaFace `label.txt`, 300-W/dlib XML with 68 points, and a simple CSV."""

from __future__ import annotations

import csv
import dataclasses
import os

import numpy as np

from keras_retinaface.evaluation import dlib_xml
from keras_retinaface.formats import annotation_text
from keras_retinaface.geometry import five_points

CSV_COLUMNS = ("image", "x", "y", "width", "height", *(f"{axis}{point}" for point in range(1, 6) for axis in "xy"))


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The faces of one image.

    Attributes:
        image: path as the file has it, relative to the folder of images.
        boxes: float64 `[N, 4]`, xyxy, pixels.
        landmarks: float64 `[N, 5, 2]`, pixels, left of the image first; NaN where a point is not annotated.
        all_landmarks: float64 `[N, 68, 2]`, pixels, NaN as above; None where the file has five only.
    """

    image: str
    boxes: np.ndarray
    landmarks: np.ndarray
    all_landmarks: np.ndarray | None = None


def read(path: str | os.PathLike) -> list[Annotation]:
    """Reads annotations; tells the format by the file's name and first character.

    Args:
        path: `.xml`, `.csv` with the columns `CSV_COLUMNS` (an empty field is a point that is not annotated), or a
            RetinaFace `label.txt`.

    Returns:
        One annotation per image, in the order of the file.

    Raises:
        ValueError: `file:line` and what is wrong there.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".xml":
        images = dlib_xml.read(path)
        return [
            make(image, boxes, [five_points.from_68(face) for face in points], points)
            for image, boxes, points in images
        ]
    text = annotation_text.read(path)
    return _read_csv(text, path) if suffix == ".csv" else _read_label(text, path)


def make(image: str, boxes_xywh, landmarks, all_landmarks=None) -> Annotation:
    """Builds an annotation from lists."""
    boxes = np.array(boxes_xywh, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    if all_landmarks is not None:
        all_landmarks = np.array(all_landmarks, np.float64).reshape(-1, 68, 2)
    return Annotation(image, boxes, np.array(landmarks, np.float64).reshape(-1, 5, 2), all_landmarks)


def _read_label(text: str, path) -> list[Annotation]:
    images, _ = annotation_text.read_label(text, str(path))
    annotations, first = [], {}
    for image in images:
        if image.name in first:
            where = f"{path}:{image.line}"
            annotation_text.fail(where, f"every image once; first in line {first[image.name]}", image.name)
        first[image.name] = image.line
        points = [[point or (np.nan, np.nan) for point in row.points] for row in image.rows]
        annotations.append(make(image.name, [row.box for row in image.rows], points))
    return annotations


def _read_csv(text: str, path) -> list[Annotation]:
    reader = csv.DictReader(text.split("\n"), strict=True)
    images: dict[str, list] = {}
    try:
        missing = [column for column in CSV_COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}:1: expected the columns {','.join(CSV_COLUMNS)}; missing: {','.join(missing)}")
        for row in reader:
            where, received = f"{path}:{reader.line_num}", list(row.values())
            box = [_field(row[column]) for column in CSV_COLUMNS[1:5]]
            points = [np.nan if row[column] == "" else _field(row[column]) for column in CSV_COLUMNS[5:]]
            if None in row or None in box or None in points:
                annotation_text.fail(where, "numbers", received)
            if expected := annotation_text.name_fault(row["image"]):
                annotation_text.fail(where, expected, row["image"])
            images.setdefault(row["image"], []).append((box, points))
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: expected CSV. Received: {error}") from None
    return [make(image, [b for b, _ in rows], [p for _, p in rows]) for image, rows in images.items()]


def _field(text: str | None) -> float | None:
    return annotation_text.number((text or "").strip())
