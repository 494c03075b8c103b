import json
import re

import pytest

from data_pipeline import coco
from data_pipeline import record as record_lib

_IMAGES = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]


def _box(category_id=1, image_id=1, **more):
    return {"id": 1, "image_id": image_id, "category_id": category_id, "bbox": [1, 2, 30, 40], **more}


def _write(tmp_path, content):
    path = tmp_path / "faces.json"
    path.write_text(content if isinstance(content, str) else json.dumps({"images": _IMAGES, **content}))
    return str(path)


def _names(*names):
    return [{"id": index, "name": name} for index, name in enumerate(names)]


def test_an_id_twice(tmp_path):
    path = _write(tmp_path, {"images": [*_IMAGES, {"id": 1, "file_name": "c.jpg"}], "annotations": [_box()]})
    with pytest.raises(ValueError, match="image 1: expected an `id` of its own .*; a.jpg has it. Received: 'c.jpg'"):
        coco.read(path)
    bad_data = record_lib.BadData("skip")
    # Nobody knows whose face it is, so neither image is trained.
    assert [record.image for record in coco.read(path, bad_data)] == ["b.jpg"] and bad_data.num_skipped == 2


@pytest.mark.parametrize(
    "names, used, category, expected",
    [
        (("face", "face"), (1,), None, 1),  # a dummy of the same name
        (("faces-of-mine", "face"), (1,), None, 1),
        (("Human face", "car"), (0, 1), None, 1),
        (("head",), (0,), None, 1),  # the only one
        (("face", "head"), (0, 1), "head", 1),
        (("face", "head"), (0, 1, 1), "1", 2),  # by its id
        (("face", "face"), (0, 1), None, 2),
    ],
)
def test_the_category_is_found(tmp_path, names, used, category, expected):
    path = _write(tmp_path, {"categories": _names(*names), "annotations": [_box(index) for index in used]})
    assert coco.read(path, category=category)[0].num_faces == expected


@pytest.mark.parametrize(
    "content, message",
    [
        ("[" * 100_000, "faces.json: expected JSON of COCO. Received: lists or objects hundreds deep"),
        ({"annotations": [], "categories": [{"name": "face"}]}, "faces.json: category 0: expected `id` and `name`. "),
        ({"annotations": [], "categories": [3]}, "faces.json: expected a list `categories` of objects"),
        ({"annotations": [_box(bbox=[1, 2, 3, 10**400])]}, "faces.json: annotation 1: expected `bbox` of 4"),
        ({"annotations": [_box(bbox=["1", 2, 3, 4])]}, "faces.json: annotation 1: expected `bbox` of 4"),
        ({"annotations": [_box(bbox=[True, 2, 3, 4])]}, "faces.json: annotation 1: expected `bbox` of 4"),
        ({"annotations": [_box(image_id=[1])]}, "faces.json: annotation 1: expected the `image_id` of one of"),
        (
            {"annotations": [_box(7)], "categories": _names("face")},
            "faces.json: annotation 1: expected the `category_id`",
        ),
        ({"annotations": [_box(ignore="0")]}, "faces.json: annotation 1: expected `iscrowd` and `ignore` of 0 or 1. "),
        (
            {"annotations": [], "images": [{"id": 1, "file_name": "../a.jpg"}]},
            "faces.json: image 1: expected a name inside",
        ),
        (
            {"annotations": [], "images": [{"id": 10**30, "file_name": "a.jpg"}]},
            "faces.json: image 0: expected `id` and",
        ),
    ],
)
def test_wrong_shapes(tmp_path, content, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        coco.read(_write(tmp_path, content))
    assert len(str(caught.value)) < 300


def test_a_category_that_is_not_there(tmp_path):
    path = _write(tmp_path, {"categories": _names("cat", "dog"), "annotations": [_box()]})
    with pytest.raises(ValueError, match=r"expected a category 'face'. Received: \['cat', 'dog'\]; --category"):
        coco.read(path, category="face")


def test_a_mark_at_the_start(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"images": _IMAGES, "annotations": [_box()]}), encoding="utf-8-sig")
    assert coco.read(str(tmp_path / "a.json"))[0].num_faces == 1
