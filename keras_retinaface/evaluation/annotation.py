"""Annotations of five landmarks: RetinaFace `label.txt`, 300-W/dlib XML with 68 points, and a simple CSV."""

from __future__ import annotations

import csv
import dataclasses
import os
import xml.etree.ElementTree

import numpy as np

CSV_COLUMNS = ("image", "x", "y", "width", "height", *(f"{axis}{point}" for point in range(1, 6) for axis in "xy"))
# Of the 68 points: both eyes by their six, the nose tip, the mouth corners.
_LEFT_EYE, _RIGHT_EYE, _NOSE, _LEFT_MOUTH, _RIGHT_MOUTH = slice(36, 42), slice(42, 48), 30, 48, 54


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
        return _read_xml(path)
    with open(path, encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            return _read_csv(file, path)
        return _read_label(file, path)


def to_five(points: np.ndarray) -> np.ndarray:
    """Reduces the 68 points of 300-W to five: eye centres, nose tip, mouth corners.

    Args:
        points: float `[..., 68, 2]`.

    Returns:
        float `[..., 5, 2]`.
    """
    eyes = [points[..., eye, :].mean(axis=-2) for eye in (_LEFT_EYE, _RIGHT_EYE)]
    return np.stack([*eyes, *(points[..., point, :] for point in (_NOSE, _LEFT_MOUTH, _RIGHT_MOUTH))], axis=-2)


def _to_annotation(image: str, boxes_xywh, landmarks) -> Annotation:
    boxes = np.array(boxes_xywh, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Annotation(image, boxes, np.array(landmarks, np.float64).reshape(-1, 5, 2))


def _read_label(file, path) -> list[Annotation]:
    annotations, rows = [], None
    for number, line in enumerate(file, start=1):
        if line.startswith("#"):
            rows = []
            annotations.append((line[1:].strip(), rows))
            continue
        values = line.split()
        if not values:
            continue
        if rows is None:
            raise ValueError(f"{path}:{number}: expected `# image` first. Received: {line.strip()!r}")
        try:
            values = [float(value) for value in values]
        except ValueError:
            values = []
        # x y w h, then five points (x y flag), then a quality; forks add columns behind.
        if len(values) != 4 and len(values) < 19:
            raise ValueError(f"{path}:{number}: expected 4 numbers, or 19 and more. Received: {line.strip()!r}")
        points = np.full((5, 3), np.nan) if len(values) == 4 else np.array(values[4:19]).reshape(5, 3)
        points[points[:, 2] < 0] = np.nan  # -1 is "not annotated", 1 "occluded", which has its place all the same
        if any(values[:4]):
            rows.append((values[:4], points[:, :2]))
    return [
        _to_annotation(image, [box for box, _ in rows], [points for _, points in rows]) for image, rows in annotations
    ]


def _read_csv(file, path) -> list[Annotation]:
    reader = csv.DictReader(file)
    missing = [column for column in CSV_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}:1: expected the columns {','.join(CSV_COLUMNS)}; missing: {','.join(missing)}")
    images: dict[str, list] = {}
    for row in reader:
        try:
            box = [float(row[column]) for column in CSV_COLUMNS[1:5]]
            points = [float(row[column] or "nan") for column in CSV_COLUMNS[5:]]
        except (TypeError, ValueError):
            raise ValueError(f"{path}:{reader.line_num}: expected numbers. Received: {list(row.values())}") from None
        images.setdefault(row["image"], []).append((box, points))
    return [_to_annotation(image, [b for b, _ in rows], [p for _, p in rows]) for image, rows in images.items()]


def _read_xml(path) -> list[Annotation]:
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except xml.etree.ElementTree.ParseError as error:
        raise ValueError(f"{path}:{error.position[0]}: not XML: {error}") from None
    annotations = []
    for image in root.iter("image"):
        boxes, landmarks, all_landmarks = [], [], []
        for box in image.iter("box"):
            parts = {part.get("name"): (float(part.get("x")), float(part.get("y"))) for part in box.iter("part")}
            points = np.array([parts.get(f"{i:02d}", (np.nan, np.nan)) for i in range(68)])
            boxes.append([float(box.get(side)) for side in ("left", "top", "width", "height")])
            landmarks.append(to_five(points))
            all_landmarks.append(points)
        entry = _to_annotation(image.get("file"), boxes, landmarks)
        points = np.array(all_landmarks, np.float64).reshape(-1, 68, 2)
        annotations.append(dataclasses.replace(entry, all_landmarks=points))
    if not annotations:
        raise ValueError(f"{path}:1: expected <image> elements")
    return annotations
