import json
import re

import numpy as np
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


_COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "Face"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 2,
            "bbox": [1, 2, 3, 4],
            "keypoints": [5, 6, 2, 0, 0, 0] + [9, 9, 1] * 3,
        },
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 90, 90]},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 1, "keypoints": [1, 2, 2] * 17},
    ],
}


def test_coco_worked_example(tmp_path):
    first, empty = coco.read(_write(tmp_path, _COCO))
    np.testing.assert_array_equal(first.boxes, [[1, 2, 4, 6]] * 2)
    np.testing.assert_array_equal(first.is_ignored, [False, True])
    np.testing.assert_array_equal(first.landmark_visible, [[True, False, True, True, True], [False] * 5])
    np.testing.assert_array_equal(first.landmarks[0], [[5, 6], [0, 0], [9, 9], [9, 9], [9, 9]])
    assert (empty.image, empty.num_faces) == ("b.jpg", 0)


@pytest.mark.parametrize(
    "annotation, message",
    [
        ({"bbox": [1, 2, 3]}, "faces.json: annotation 9: expected `bbox` of 4 and `keypoints` of finite numbers. "),
        ({"bbox": [1, 2, float("nan"), 4]}, "faces.json: annotation 9: expected `bbox` of 4"),
        ({"bbox": "1 2 3 4"}, "faces.json: annotation 9: expected `bbox` of 4"),
    ],
)
def test_coco_faults_cost_their_image(tmp_path, annotation, message):
    faulty = {"id": 9, "image_id": 7, "category_id": 2, **annotation}
    path = _write(tmp_path, {**_COCO, "annotations": [*_COCO["annotations"], faulty]})
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        coco.read(path)
    bad_data = record_lib.BadData("skip")
    assert [record.image for record in coco.read(path, bad_data)] == ["b.jpg"] and bad_data.num_skipped == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": 3}, "faces.json: expected an object with lists `images` and `annotations` of objects"),
        ({"images": [{"id": 1}]}, "faces.json: image 0: expected `id` and `file_name`. Received: {'id': 1}"),
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]},
            "faces.json: expected a category named 'face' among several. Received: ['cat', 'dog']",
        ),
        (
            {"annotations": [{"id": 4, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}]},
            "faces.json: annotation 4: expected the `image_id` of one of the images. Received: 1",
        ),
    ],
)
def test_coco_that_is_none(tmp_path, changes, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        coco.read(_write(tmp_path, {**_COCO, **changes}))


def test_coco_that_is_no_json(tmp_path):
    (tmp_path / "faces.json").write_text('{"images": [],\n oops}')
    with pytest.raises(ValueError, match="^faces.json:2: expected JSON. Received: "):
        coco.read(str(tmp_path / "faces.json"))
