import numpy as np
import pytest

from keras_retinaface.evaluation import annotation, landmark
from keras_retinaface.inference import merging


def _annotation(boxes, landmarks, image="a.jpg"):
    return annotation.Annotation(image, np.array(boxes, float).reshape(-1, 4), np.array(landmarks, float))


def _found(boxes, landmarks):
    return merging.Detections(np.array(boxes, float), np.ones(len(boxes)), landmarks)


def _points(x, y):
    return np.array([[x, y]] * 5, float) + [[0, 0], [20, 0], [10, 10], [2, 20], [18, 20]]


def test_worked_example():
    # Box 40 x 90, so sqrt(W H) = 60. The nose is off by (3, 4), 5 pixels, the left eye by 12: (5 + 12) / 60 / 5.
    truth = _annotation([[0, 0, 40, 90]], [_points(10, 10)])
    found = _points(10, 10)
    found[2] += [3, 4]
    found[0] += [0, 12]
    result = landmark.evaluate({"a.jpg": _found([[1, 0, 41, 90]], found[None])}, [truth])
    np.testing.assert_allclose(result.errors, [[0.2, 0, 5 / 60, 0, 0]])
    summary = result.summarise()
    assert summary["nme"] == pytest.approx(17 / 300)
    assert (summary["failure_rate"], summary["faces"], summary["unmatched"]) == (0, 1, 0)
    assert summary["by_point"]["nose"] == pytest.approx(5 / 60)
    assert summary["by_size"] == {
        "32-64": {"faces": 1, "unmatched": 0, "nme": pytest.approx(17 / 300), "failure_rate": 0.0}
    }


def test_unmatched_faces_fail_and_are_counted():
    truth = _annotation([[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]], [_points(i, 5) for i in (5, 105, 205)])
    boxes = np.array([[0, 0, 40, 40], [100, 0, 140, 40]])
    # The second is off by 8 pixels at every point: 8 / 40 = 0.2, more than 10 %.
    points = np.array([_points(5, 5), _points(105, 13)])
    summary = landmark.evaluate({"a.jpg": _found(boxes, points)}, [truth]).summarise()
    assert (summary["faces"], summary["unmatched"]) == (3, 1)
    assert summary["nme"] == pytest.approx(0.1)
    assert summary["failure_rate"] == pytest.approx(2 / 3)
    assert summary["failure_rate_matched"] == pytest.approx(1 / 2)
    nothing = landmark.evaluate({}, [truth]).summarise()
    assert (nothing["nme"], nothing["failure_rate"], nothing["unmatched"]) == (None, 1.0, 3)


def test_faces_without_points_hold_their_detections():
    # Both detections overlap the annotated face; the better one belongs to its neighbour, which has no points.
    truth = _annotation([[0, 0, 40, 40], [10, 0, 50, 40]], [_points(5, 5), np.full((5, 2), np.nan)])
    boxes = np.array([[9, 0, 49, 40], [0, 5, 40, 45]])
    points = np.array([_points(500, 500), _points(5, 5)])
    result = landmark.evaluate({"a.jpg": _found(boxes, points)}, [truth])
    np.testing.assert_array_equal(result.errors, np.zeros((1, 5)))


def test_missing_points_are_left_out():
    points = _points(10, 10)
    points[3:] = np.nan
    truth = _annotation([[0, 0, 30, 30]], [points])
    found = _points(10, 10) + [3, 0]
    result = landmark.evaluate({"a.jpg": _found([[0, 0, 30, 30]], found[None])}, [truth])
    np.testing.assert_allclose(result.face_errors, [0.1])
    assert result.summarise()["by_point"]["left_mouth"] is None


def test_matching_prefers_the_largest_overlap_and_uses_each_detection_once():
    faces = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10]])
    match = landmark.match_boxes(faces, np.array([[1.9, 0, 11.9, 10]]), 0.3)
    np.testing.assert_array_equal(match, [-1, 0])
    assert landmark.match_boxes(faces, np.zeros((0, 4)), 0.3).tolist() == [-1, -1]


def test_cumulative_curve_and_its_area():
    errors = np.array([0.02, 0.05, 0.3, np.inf])
    x, share = landmark.cumulative(errors, num=11)
    np.testing.assert_allclose(share, [0, 0, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    # Rectangles under the curve: (0.1 - 0.02) / 0.1 and (0.1 - 0.05) / 0.1, over four faces.
    assert landmark.area_under_cumulative(errors) == pytest.approx((0.8 + 0.5) / 4)
    fine, curve = landmark.cumulative(errors, num=100_001)
    assert np.mean(curve) == pytest.approx((0.8 + 0.5) / 4, abs=1e-4)


def test_no_faces():
    summary = landmark.evaluate({}, []).summarise()
    assert (summary["nme"], summary["failure_rate"], summary["faces"]) == (None, None, 0)
