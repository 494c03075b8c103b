import re

import numpy as np
import pytest
from absl import logging

from data_pipeline import record as record_lib
from data_pipeline import wider_face

_OFFICIAL = """0--Parade/a.jpg
2
10 20 30 40 2 0 0 0 1 0
5 6 7 8 0 0 0 1 0 0
1--Empty/b.jpg
0
0 0 0 0 0 0 0 0 0 0
c.jpg
3
1 1 0 5 0 0 0 0 0 0
9 9 -4 5 0 0 0 0 0 0
-3 -2 9 9 0 0 0 0 0 0
"""
_POINTS = "1 2 0.0 3 4 1.0 -1.0 -1.0 -1.0 5 6 0.0 7 8 0.0"


def _write(tmp_path, text, name="label.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def _skip(path):
    bad_data = record_lib.BadData("skip")
    return wider_face.read(path, bad_data), bad_data


def test_official_worked_example(tmp_path):
    first, empty, dirty = wider_face.read(_write(tmp_path, _OFFICIAL, "bbx_gt.txt"))
    assert (first.image, first.where) == ("0--Parade/a.jpg", "bbx_gt.txt:1")
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [5, 6, 12, 14]])
    # The second has the flag of invalid faces.
    np.testing.assert_array_equal(first.is_ignored, [False, True])
    assert not first.landmark_visible.any() and first.landmarks.shape == (2, 5, 2)
    assert (empty.image, empty.num_faces) == ("1--Empty/b.jpg", 0)
    # Without area: kept, at its corner, and ignored. A box that leaves the image is a face.
    np.testing.assert_array_equal(dirty.boxes, [[1, 1, 1, 6], [9, 9, 9, 14], [-3, -2, 6, 7]])
    np.testing.assert_array_equal(dirty.is_ignored, [True, True, False])


def test_official_without_dummy_rows(tmp_path):
    records = wider_face.read(_write(tmp_path, "a.jpg\n0\nb.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n\nc.jpg\n0\n"))
    assert [(record.image, record.num_faces) for record in records] == [("a.jpg", 0), ("b.jpg", 1), ("c.jpg", 0)]


def test_label_worked_example(tmp_path):
    text = f"# a.jpg\n10 20 30 40 {_POINTS} 0.82\n\n1 2 3 4\n5 6 7 8 {_POINTS}\n# dir/b c.png\n# d.jpg\n0 0 0 0\n"
    first, empty, dummy = wider_face.read(_write(tmp_path, text))
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [1, 2, 4, 6], [5, 6, 12, 14]])
    np.testing.assert_array_equal(first.landmarks[0], [[1, 2], [3, 4], [0, 0], [5, 6], [7, 8]])
    # One point of a face may be missing; one behind something is known all the same.
    np.testing.assert_array_equal(first.landmark_visible, [[1, 1, 0, 1, 1], [0] * 5, [1, 1, 0, 1, 1]])
    assert not first.is_ignored.any()
    assert (empty.image, empty.num_faces, empty.where) == ("dir/b c.png", 0, "label.txt:6")
    assert dummy.num_faces == 0


_OFFICIAL_ROW = "10 numbers: x y w h blur expression illumination invalid occlusion pose, none over 1e7"
_LABEL_ROW = "4 numbers, or 19 and more: x y w h [5 x (x y flag)] [quality], none over 1e7"
_GOOD = "good.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    "text, message, kept",
    [
        (
            "a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n" + _GOOD,
            f"label.txt:4: expected {_OFFICIAL_ROW}. Received: 'good.jpg'",
            ["good.jpg"],
        ),
        ("a.jpg\n1\n1 2 3 4\n" + _GOOD, f"label.txt:3: expected {_OFFICIAL_ROW}. Received: '1 2 3 4'", ["good.jpg"]),
        (
            _GOOD + "a.jpg\n1\n1 2 nan 4 0 0 0 0 0 0\n",
            f"label.txt:6: expected {_OFFICIAL_ROW}. Received: '1 2 nan 4 0 0 0 0 0 0'",
            ["good.jpg"],
        ),
        ("a.jpg\nmany\n" + _GOOD, "label.txt:2: expected the number of faces in a.jpg. Received: 'many'", ["good.jpg"]),
        (
            _GOOD + "a.jpg",
            "label.txt:5: expected the number of faces in a.jpg. Received: 'the end of the file or a blank line'",
            ["good.jpg"],
        ),
        # A row too many: the image before has a face that is not among its faces.
        (
            "a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n5 6 7 8 0 0 0 0 0 0\n" + _GOOD,
            "label.txt:4: expected the path of an image or the row of a face that the count covers. "
            "Received: '5 6 7 8 0 0 0 0 0 0'",
            ["good.jpg"],
        ),
        (
            _GOOD + "a.7\n1\n1 2 3 4 0 0 0 0 0 0\n",
            "label.txt:4: expected the path of an image or the row of a face that the count covers. Received: 'a.7'",
            ["good.jpg"],
        ),
        (
            "# a.jpg\n1 2 3 4\n1 2 3\n5 6 7 8\n# good.jpg\n1 2 3 4\n",
            f"label.txt:3: expected {_LABEL_ROW}. Received: '1 2 3'",
            ["good.jpg"],
        ),
        (
            "# good.jpg\n# a.jpg\n1 2 inf 4\n",
            f"label.txt:3: expected {_LABEL_ROW}. Received: '1 2 inf 4'",
            ["good.jpg"],
        ),
        (
            "# a.jpg 640 480\n1 2 3 4\n# good.jpg\n",
            "label.txt:1: expected `# ` and the path of an image.",
            ["good.jpg"],
        ),
        (
            "# good.jpg\n# ./good.jpg\n",
            "label.txt:2: expected every image once; first at label.txt:1. Received: './good.jpg'",
            ["good.jpg"],
        ),
    ],
)
def test_faults_name_the_line_and_cost_their_image(tmp_path, text, message, kept):
    path = _write(tmp_path, text)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        wider_face.read(path)
    records, bad_data = _skip(path)
    assert [record.image for record in records] == kept
    assert len(bad_data.faults) == bad_data.num_skipped == 1
    assert bad_data.faults[0].startswith(message)


def test_skipped_images_are_counted_and_reported(tmp_path, caplog):
    text = "".join(f"# {index}.jpg\n1 2 {'x' if index % 2 else 3} 4\n" for index in range(50))
    records, bad_data = _skip(_write(tmp_path, text))
    assert len(records) == 25 and bad_data.num_skipped == len(bad_data.faults) == 25
    assert not any(int(record.image[:-4]) % 2 for record in records)
    logger = logging.get_absl_logger()
    logger.addHandler(caplog.handler)
    try:
        bad_data.report(len(records))
        record_lib.BadData("skip").report(3)
    finally:
        logger.removeHandler(caplog.handler)
    first = f"label.txt:4: expected {_LABEL_ROW}. Received: '1 2 x 4'"
    assert f"skipped 25 of 50 images for 25 faults; the first: {first}" in caplog.messages
    assert not any("of 3 images" in message for message in caplog.messages)


def test_photos_of_the_project(photos):
    records = wider_face.read(str(photos / "label.txt"))
    assert len(records) == 7 and all((photos / record.image).is_file() for record in records)
    assert all(record.landmark_visible.all() and not record.is_ignored.any() for record in records)
    for record in records:
        centre = record.landmarks.mean(1)
        assert ((centre > record.boxes[:, :2]) & (centre < record.boxes[:, 2:])).all()


@pytest.mark.shared
def test_the_real_texts(shared):
    folder = shared / "wider_face"
    records = wider_face.read(str(folder / "wider_face_train_bbx_gt.txt"))
    labels = wider_face.read(str(folder / "label_pseudo_landmarks.txt"))
    assert len(records) == 2429 and sum(record.num_faces for record in records) > 20000
    joined = record_lib.join_landmarks(records, labels)
    found = sum(int(record.landmark_visible.any(1).sum()) for record in joined)
    assert found == sum(int(label.landmark_visible.any(1).sum()) for label in labels) > 1000
