import numpy as np
import pytest

from data_pipeline import record as record_lib
from data_pipeline import wider_face


def _write(tmp_path, text, name="label.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_on_bad_data_is_one_of_two():
    with pytest.raises(ValueError, match=r"`on_bad_data` must be one of .*Received: on_bad_data='drop'"):
        record_lib.BadData("drop")


def test_landmarks_are_joined_by_row_or_by_overlap(tmp_path):
    boxes = wider_face.read(
        _write(
            tmp_path,
            "a.jpg\n2\n0 0 10 10 0 0 0 0 0 0\n50 0 10 10 0 0 0 1 0 0\n"
            "b.jpg\n3\n0 0 10 10 0 0 0 0 0 0\n50 50 20 20 0 0 0 0 0 0\n90 90 5 5 0 0 0 0 0 0\n"
            "c.jpg\n1\n1 1 5 5 0 0 0 0 0 0\n",
        )
    )
    one = "1 1 0 2 1 0 3 3 0 4 4 0 5 5 0"
    landmarks = wider_face.read(
        _write(
            tmp_path,
            # a: the same rows, rounded, one without points. b: other rows in another order. c: not there; d: too much.
            f"# a.jpg\n0.4 0 10 10 {one}\n50 0 10 10\n"
            f"# b.jpg\n51 52 20 20 {one.replace('1 1 0', '60 60 0')}\n0 1 10 10 {one}\n# d.jpg\n1 2 3 4 {one}\n",
            "landmarks.txt",
        )
    )
    first, second, third = record_lib.join_landmarks(boxes, landmarks)
    np.testing.assert_array_equal(first.landmark_visible.all(1), [True, False])
    np.testing.assert_array_equal(first.landmarks[0], [[1, 1], [2, 1], [3, 3], [4, 4], [5, 5]])
    np.testing.assert_array_equal(second.landmark_visible.all(1), [True, True, False])
    np.testing.assert_array_equal(second.landmarks[:, 0], [[1, 1], [60, 60], [0, 0]])
    assert not third.landmark_visible.any()
    # Boxes and what is ignored come from the first file.
    np.testing.assert_array_equal(first.boxes, [[0, 0, 10, 10], [50, 0, 60, 10]])
    np.testing.assert_array_equal(first.is_ignored, [False, True])


def test_two_faces_do_not_share_one_partner():
    faces = [record_lib.Face((0, 0, 10, 10)), record_lib.Face((1, 0, 11, 10))]
    points = tuple((float(k), 1.0) for k in range(5))
    other = record_lib.make("a.jpg", [record_lib.Face((1, 0, 11, 10), points, (True,) * 5)])
    (joined,) = record_lib.join_landmarks([record_lib.make("a.jpg", faces)], [other])
    np.testing.assert_array_equal(joined.landmark_visible.all(1), [False, True])
    np.testing.assert_array_equal(joined.landmarks[1], points)


def test_a_face_without_area_is_kept_and_ignored():
    record = record_lib.make("a.jpg", [record_lib.Face((5, 5, 9, 9)), record_lib.Face((5, 5, 9, 3))], "l.txt:4")
    np.testing.assert_array_equal(record.boxes, [[5, 5, 9, 9], [5, 5, 9, 5]])
    np.testing.assert_array_equal(record.is_ignored, [False, True])
    empty = record_lib.make("b.jpg", [])
    assert (empty.num_faces, empty.boxes.shape, empty.landmarks.shape) == (0, (0, 4), (0, 5, 2))


def test_an_image_that_stands_twice_is_named_or_left_out():
    records = [
        record_lib.make(name, [], f"l.txt:{line}") for line, name in enumerate(("a/b.jpg", "c.jpg", "a/./b.jpg"))
    ]
    with pytest.raises(ValueError, match="l.txt:2: expected every image once; first at l.txt:0. Received: 'a/./b.jpg'"):
        record_lib.check_duplicates(records, record_lib.BadData())
    bad_data = record_lib.BadData("skip")
    assert record_lib.check_duplicates(records, bad_data) == records[:2] and bad_data.num_skipped == 1


def test_an_image_that_fails_later_is_told_once(caplog):
    bad_data = record_lib.BadData("skip")
    bad_data.report_left_out()
    for _ in range(2):
        bad_data.leave_out("a.jpg", "no JPEG")
    bad_data.leave_out("b.jpg", "cut")
    bad_data.report_left_out()
    assert [record.getMessage() for record in caplog.records] == [
        "a.jpg: expected a whole image. Received: no JPEG; going on without it",
        "b.jpg: expected a whole image. Received: cut; going on without it",
        "2 images could not be decoded and were left out: a.jpg, b.jpg",
    ]
