"""Reads COCO-style JSON, the format that most labelling tools write; no TensorFlow here."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import os

from absl import logging

from data_pipeline import record as record_lib
from keras_retinaface.formats import annotation_text
from keras_retinaface.geometry import five_points

_FACE = "face"
_LISTS = ("images", "annotations")
_NUM_POINTS = len(five_points.NAMES)
_FLAGS = (0, 1)
# An `int` of more digits is no id and no pixel, and takes Python a time that grows with their square.
_MOST_DIGITS = 18


def read(
    path: str, bad_data: record_lib.BadData | None = None, *, category: str | None = None
) -> list[record_lib.Record]:
    """Reads an annotation file with `images`, `annotations` and, when there are several kinds, `categories`.

    An annotation's `bbox` is x, y, width, height in pixels. `keypoints` may hold the five landmarks as 15 numbers, x, y
    and 0 for a point that is not labelled; other numbers of keypoints are not faces' landmarks and are left alone.
    `iscrowd` and `ignore` make a face ignored.

    Args:
        path: path of the file.
        bad_data: what to do with a fault; raises when None.
        category: name or id of the faces' category. By default the one named "face", else the one whose name speaks of
            faces, or the only one; of several with one name those that have annotations.

    Returns:
        One record an image, in the order of `images`, also for those without an annotation.

    Raises:
        ValueError: at the first fault, naming the file and the annotation's id, unless it is to be skipped; in any case
            when the file is not such JSON, or has no such category.
    """
    bad_data = bad_data or record_lib.BadData()
    name = os.path.basename(path)
    content = _load(path, name)
    chosen, known = _choose_categories(content, name, category)
    faces: dict[object, list[record_lib.Face]] = {image["id"]: [] for image in content["images"]}
    faulty = _repeated_ids(content["images"], name, bad_data)
    faulty.update(_bad_names(content["images"], name, bad_data))
    for annotation in content["annotations"]:
        image_id = annotation.get("image_id")
        if chosen is not None and _is_id(annotation.get("category_id"), known - chosen):
            continue
        where, face = f"{name}: annotation {annotation_text.shorten(annotation.get('id'))}", _face(annotation)
        if not _is_id(image_id, faces):
            bad_data.add(where, "the `image_id` of one of the images", image_id)
        elif chosen is not None and not _is_id(annotation.get("category_id"), known):
            bad_data.add(where, "the `category_id` of one of the categories", annotation.get("category_id"))
            faulty.add(image_id)
        elif any(flag not in _FLAGS for flag in _flags(annotation)):
            bad_data.add(where, "`iscrowd` and `ignore` of 0 or 1", _flags(annotation))
            faulty.add(image_id)
        elif face is None:
            bad_data.add(where, "`bbox` of 4 and `keypoints` of finite numbers", annotation.get("bbox"))
            faulty.add(image_id)
        else:
            faces[image_id].append(face)
    bad_data.num_skipped += sum(image["id"] in faulty for image in content["images"])
    records = [
        dataclasses.replace(
            record_lib.make(
                image["file_name"], faces[image["id"]], f"{name}: image {annotation_text.cut(str(image['id']))}"
            ),
            size=_size(image),
        )
        for image in content["images"]
        if image["id"] not in faulty
    ]
    return record_lib.check_duplicates(records, bad_data)


def _load(path: str, name: str) -> dict:
    """Returns the file's object, whose lists and ids have the right types."""
    try:
        content = json.loads(annotation_text.read(path), parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}:{error.lineno}: expected JSON. Received: {annotation_text.cut(error.msg)}") from error
    except RecursionError:
        raise ValueError(f"{name}: expected JSON of COCO. Received: lists or objects hundreds deep") from None
    if not isinstance(content, dict) or not all(_is_list_of_dicts(content.get(key)) for key in _LISTS):
        raise ValueError(f"{name}: expected an object with lists `images` and `annotations` of objects")
    if not _is_list_of_dicts(content.get("categories") or []):
        raise ValueError(f"{name}: expected a list `categories` of objects")
    for index, image in enumerate(content["images"]):
        if not isinstance(image.get("file_name"), str) or not _is_id(image.get("id")):
            received = annotation_text.shorten(image)
            raise ValueError(f"{name}: image {index}: expected `id` and `file_name`. Received: {received}")
    for index, entry in enumerate(content.get("categories") or []):
        if not isinstance(entry.get("name"), str) or not _is_id(entry.get("id")):
            received = annotation_text.shorten(entry)
            raise ValueError(f"{name}: category {index}: expected `id` and `name`. Received: {received}")
    return content


def _choose_categories(content: dict, name: str, category: str | None) -> tuple[set | None, set]:
    """Returns the ids of the faces' categories, None when there is nothing to choose from, and those of all."""
    entries = content.get("categories") or []
    known = {entry["id"] for entry in entries}
    if not entries and category is None:
        return None, known
    used = collections.Counter(a.get("category_id") for a in content["annotations"] if _is_id(a.get("category_id")))
    wanted = _FACE if category is None else category.lower()
    choices = [{e["id"] for e in entries if e["name"].lower() == wanted}]
    if category is None:
        choices.append({e["id"] for e in entries if _FACE in e["name"].lower()})
        choices.append(known if len(entries) == 1 else set())
    else:
        choices.append({e["id"] for e in entries if str(e["id"]) == category})
    # Tools write a dummy beside the category that they use, often of the same name.
    for choice in choices:
        chosen = {identity for identity in choice if used[identity]}
        if chosen:
            break
    else:
        chosen = next((choice for choice in choices if choice), set())
    if not chosen:
        names = annotation_text.shorten([entry["name"] for entry in entries])
        kind = (
            f"a category named {_FACE!r} among several"
            if category is None
            else f"a category {annotation_text.shorten(category)}"
        )
        raise ValueError(f"{name}: expected {kind}. Received: {names}; --category chooses one")
    if len(entries) > 1:
        titles = [
            f"{annotation_text.shorten(e['name'])} (id {e['id']}, {used[e['id']]} annotations)"
            for e in entries
            if e["id"] in chosen
        ]
        logging.info("%s: of %d categories taking %s", name, len(entries), ", ".join(titles))
    return chosen, known


def _repeated_ids(images: list[dict], name: str, bad_data: record_lib.BadData) -> set:
    """Returns the ids that several images have: whose faces theirs are cannot be told."""
    first: dict[object, str] = {}
    repeated = set()
    for image in images:
        if image["id"] in first:
            other = annotation_text.cut(first[image["id"]])
            where = f"{name}: image {annotation_text.cut(str(image['id']))}"
            bad_data.add(where, f"an `id` of its own for every image; {other} has it", image["file_name"])
            repeated.add(image["id"])
        first.setdefault(image["id"], image["file_name"])
    return repeated


def _bad_names(images: list[dict], name: str, bad_data: record_lib.BadData) -> set:
    """Returns the ids of images whose name is none, or leaves the folder."""
    bad = set()
    for image in images:
        if expected := annotation_text.name_fault(image["file_name"]):
            bad_data.add(f"{name}: image {annotation_text.cut(str(image['id']))}", expected, image["file_name"])
            bad.add(image["id"])
    return bad


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _is_id(value: object, ids: object = None) -> bool:
    is_one = isinstance(value, (int, str)) and not isinstance(value, bool)
    return is_one and (ids is None or value in ids)


def _size(image: dict) -> tuple[int, int] | None:
    """Returns the (width, height) that an image is said to have, None where it is not said."""
    size = image.get("width"), image.get("height")
    return size if all(isinstance(side, int) and side > 0 for side in size) else None


def _is_list_of_dicts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _face(annotation: dict) -> record_lib.Face | None:
    box = _numbers(annotation.get("bbox"))
    points = _numbers(annotation.get("keypoints") or [])
    if box is None or points is None or len(box) != 4:
        return None
    x, y, width, height = box
    landmarks, visible = [(0.0, 0.0)] * _NUM_POINTS, [False] * _NUM_POINTS
    if len(points) == 3 * _NUM_POINTS:
        for index in range(_NUM_POINTS):
            point_x, point_y, flag = points[3 * index : 3 * index + 3]
            if flag > 0:
                landmarks[index], visible[index] = (point_x, point_y), True
    return record_lib.Face((x, y, x + width, y + height), tuple(landmarks), tuple(visible), any(_flags(annotation)))


def _flags(annotation: dict) -> list:
    return [annotation.get(key) or 0 for key in ("iscrowd", "ignore")]


def _numbers(values: object) -> list[float] | None:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    return values if all(abs(value) <= annotation_text.LARGEST for value in values) else None
