import json

import numpy as np
import pytest

from data_pipeline import coco, record

CONTENT = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "Face"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [10, 20, 30.5, 40]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 99, 99]},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        {
            "id": 4,
            "image_id": 7,
            "category_id": 2,
            "bbox": [5, 5, 5, 5],
            "keypoints": [6, 7, 2, 0, 0, 0] + [8, 9, 1] * 3,
        },
    ],
}


def _read(tmp_path, content, on_bad_data="fail"):
    path = tmp_path / "faces.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    bad_data = record.BadData(on_bad_data)
    return coco.read(str(path), bad_data), bad_data


def test_faces_crowds_keypoints_and_empty_images(tmp_path):
    (first, second), _ = _read(tmp_path, CONTENT)
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40.5, 60], [1, 2, 4, 6], [5, 5, 10, 10]])
    np.testing.assert_array_equal(first.is_ignored, [False, True, False])
    np.testing.assert_array_equal(first.landmark_visible[2], [True, False, True, True, True])
    np.testing.assert_array_equal(first.landmarks[2, 0], [6, 7])
    assert (second.image, second.num_faces) == ("b.jpg", 0)


@pytest.mark.parametrize(
    ("changes", "message", "num_kept"),
    [
        ({"image_id": 8}, "faces.json: annotation 1: expected the `image_id` of one of the images. Received: 8", 2),
        ({"bbox": [1, 2, 3]}, r"faces.json: annotation 1: expected `bbox` of 4 .* Received: \[1, 2, 3\]", 1),
        ({"bbox": [1, 2, float("nan"), 4]}, "annotation 1: expected `bbox` of 4 and `keypoints` of finite numbers", 1),
    ],
)
def test_faults_name_the_annotation(tmp_path, changes, message, num_kept):
    content = {**CONTENT, "annotations": [{**CONTENT["annotations"][0], **changes}]}
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, content)
    assert len(_read(tmp_path, content, "skip")[0]) == num_kept


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{\n oops", "faces.json:2: expected JSON"),
        ({"images": []}, "expected an object with lists `images` and `annotations`"),
        (
            {**CONTENT, "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]},
            r"named 'face' .*\['cat', 'dog'\]",
        ),
    ],
)
def test_other_files_are_errors(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, content, "skip")
