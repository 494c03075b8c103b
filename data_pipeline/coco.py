"""Reads COCO-style JSON, the format that most labelling tools write; no TensorFlow here."""

from __future__ import annotations

import json
import math
import os

from data_pipeline import record as record_lib

_FACE = "face"
_LISTS = ("images", "annotations")
_NUM_POINTS = 5


def read(path: str, bad_data: record_lib.BadData | None = None) -> list[record_lib.Record]:
    """Reads an annotation file with `images`, `annotations` and, when there are several kinds, `categories`.

    An annotation's `bbox` is x, y, width, height in pixels. `keypoints` may hold the five landmarks as 15 numbers, x, y
    and 0 for a point that is not labelled; other numbers of keypoints are not faces' landmarks and are left alone.
    `iscrowd` and `ignore` make a face ignored. Of several categories the one named "face" is taken.

    Args:
        path: of the file.
        bad_data: what to do with a fault; raises when None.

    Returns:
        One record an image, in the order of `images`, also for those without an annotation.

    Raises:
        ValueError: at the first fault, naming the file and the annotation's id, unless it is to be skipped; in any case
            when the file is not such JSON.
    """
    bad_data = bad_data or record_lib.BadData()
    name = os.path.basename(path)
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}:{error.lineno}: expected JSON. Received: {error.msg}") from error
    if not isinstance(content, dict) or not all(_is_list_of_dicts(content.get(key)) for key in _LISTS):
        raise ValueError(f"{name}: expected an object with lists `images` and `annotations` of objects")
    for index, image in enumerate(content["images"]):
        if not isinstance(image.get("file_name"), str) or not isinstance(image.get("id"), (int, str)):
            raise ValueError(f"{name}: image {index}: expected `id` and `file_name`. Received: {image}")
    category = _face_category(content.get("categories", []), name)
    faces: dict[object, list[record_lib.Face]] = {image["id"]: [] for image in content["images"]}
    faulty = set()
    for annotation in content["annotations"]:
        if category is not None and annotation.get("category_id") != category:
            continue
        where, image_id = f"{name}: annotation {annotation.get('id')}", annotation.get("image_id")
        face = _face(annotation)
        if image_id not in faces:
            bad_data.add(where, "the `image_id` of one of the images", image_id)
        elif face is None:
            bad_data.add(where, "`bbox` of 4 and `keypoints` of finite numbers", annotation.get("bbox"))
            faulty.add(image_id)
        else:
            faces[image_id].append(face)
    bad_data.num_skipped += len(faulty)
    records = [
        record_lib.make(image["file_name"], faces[image["id"]], f"{name}: image {image['id']}")
        for image in content["images"]
        if image["id"] not in faulty
    ]
    return record_lib.check_duplicates(records, bad_data)


def _is_list_of_dicts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _face_category(categories: list[dict], name: str) -> object:
    """Returns the id of the faces' category, None when there is nothing to choose from."""
    if len(categories) < 2:
        return None
    for category in categories:
        if str(category.get("name", "")).lower() == _FACE:
            return category["id"]
    names = [category.get("name") for category in categories]
    raise ValueError(f"{name}: expected a category named {_FACE!r} among several. Received: {names}")


def _face(annotation: dict) -> record_lib.Face | None:
    box = _numbers(annotation.get("bbox"))
    points = _numbers(annotation.get("keypoints", []))
    if box is None or points is None or len(box) != 4:
        return None
    x, y, width, height = box
    landmarks, visible = [(0.0, 0.0)] * _NUM_POINTS, [False] * _NUM_POINTS
    if len(points) == 3 * _NUM_POINTS:
        for index in range(_NUM_POINTS):
            point_x, point_y, flag = points[3 * index : 3 * index + 3]
            if flag > 0:
                landmarks[index], visible[index] = (point_x, point_y), True
    is_ignored = bool(annotation.get("iscrowd", 0) or annotation.get("ignore", 0))
    return record_lib.Face((x, y, x + width, y + height), tuple(landmarks), tuple(visible), is_ignored)


def _numbers(values: object) -> list[float] | None:
    if not isinstance(values, list) or not all(isinstance(value, (int, float)) for value in values):
        return None
    return values if all(math.isfinite(value) for value in values) else None
