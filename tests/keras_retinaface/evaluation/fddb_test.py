import numpy as np
import pytest

from keras_retinaface.evaluation import fddb, prediction

SIZES = {"a": (400, 400), "b": (400, 400)}
# A circle of radius 50 about (100, 100), and an upright ellipse: angle 90 degrees turns its long axis down.
CIRCLE = [50.0, 50.0, 0.0, 100.0, 100.0]
UPRIGHT = [80.0, 40.0, np.pi / 2, 250.0, 200.0]


def _ellipse_of(ellipse, score):
    return [*ellipse, score]


def test_rectangle_around_a_circle_overlaps_by_a_quarter_of_pi():
    overlap = fddb.overlaps(prediction.of_rows([[50.0, 50, 100, 100, 0.9]]), np.array([CIRCLE]), (400, 400))
    assert overlap[0, 0] == pytest.approx(np.pi / 4, abs=0.01)


def test_ellipse_overlaps_itself_wholly_and_angle_turns_it():
    rows = np.array([_ellipse_of(UPRIGHT, 0.9), [80, 40, 0, 250, 200, 0.9]])
    overlap = fddb.overlaps(rows, np.array([UPRIGHT]), (400, 400))
    assert overlap[0, 0] == 1
    # Two ellipses crossed at right angles share 4 a b atan(b / a) of their 2 pi a b.
    shared = 4 * 80 * 40 * np.arctan(0.5)
    assert overlap[1, 0] == pytest.approx(shared / (2 * np.pi * 80 * 40 - shared), abs=0.01)


def test_rectangles_equal_masks_drawn_in_full():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(-20, 90, (40, 2)), rng.uniform(1, 60, (40, 2)), rng.random(40)])
    ellipse = np.array([30.0, 20.0, 0.4, 50.0, 45.0])
    mask = fddb._mask(ellipse, (100, 110)).astype(bool)
    for row, overlap in zip(rows, fddb.overlaps(prediction.of_rows(rows), ellipse[None], (100, 110))[:, 0]):
        other = np.zeros((100, 110), bool)
        x1, y1, x2, y2 = (int(np.floor(v + 0.5)) for v in (row[0], row[1], row[0] + row[2], row[1] + row[3]))
        other[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)] = True
        assert overlap == pytest.approx((mask & other).sum() / (mask | other).sum(), abs=1e-12)


def test_curves_worked_example():
    # By score: the circle's box in a (pi / 4), a false one in b (0), and the upright ellipse itself in b (1).
    faces = {"a": np.array([CIRCLE]), "b": np.array([UPRIGHT])}
    detections = {
        "a": prediction.of_rows([[50.0, 50, 100, 100, 0.9]]),
        "b": np.array([_ellipse_of([20, 20, 0, 30, 30], 0.8), _ellipse_of(UPRIGHT, 0.7)]),
    }
    roc = fddb.evaluate(detections, faces, SIZES)
    np.testing.assert_array_equal(roc.scores, [0.9, 0.8, 0.7])
    np.testing.assert_array_equal(roc.false_positives, [0, 1, 1])
    np.testing.assert_allclose(roc.discrete, [0.5, 0.5, 1])
    np.testing.assert_allclose(roc.continuous, [np.pi / 8, np.pi / 8, np.pi / 8 + 0.5], atol=0.01)
    assert roc.at(0) == pytest.approx((0.5, np.pi / 8), abs=0.01)
    assert roc.at(1000)[0] == 1


def test_better_box_takes_the_face_over():
    # First a loose box (overlap under one half: false), then the tight one: found, and the loose one stays false.
    detections = {"a": prediction.of_rows([[40.0, 40, 60, 60, 0.9], [50, 50, 100, 100, 0.5]])}
    roc = fddb.evaluate(detections, {"a": np.array([CIRCLE])}, SIZES)
    np.testing.assert_array_equal(roc.discrete, [0, 1])
    np.testing.assert_array_equal(roc.false_positives, [1, 1])


def test_no_detections():
    roc = fddb.evaluate({}, {"a": np.array([CIRCLE])}, SIZES)
    assert roc.at(1000) == (0.0, 0.0)


def test_reads_folds_and_detections(tmp_path):
    (tmp_path / "FDDB-fold-01-ellipseList.txt").write_text("2002/img_1\n1\n80 40 1.5 250 200  1\n2002/img_2\n0\n")
    (tmp_path / "FDDB-fold-02-ellipseList.txt").write_text("2003/img_3\n2\n1 2 3 4 5  1\n6 7 8 9 10 1\n")
    faces = fddb.read_ellipses(tmp_path)
    assert [len(faces[name]) for name in ("2002/img_1", "2002/img_2", "2003/img_3")] == [1, 0, 2]
    np.testing.assert_array_equal(faces["2002/img_1"], [[80, 40, 1.5, 250, 200]])
    path = tmp_path / "found.txt"
    path.write_text("2002/img_1.jpg\n1\n1 2 3 4 0.5\n2002/img_2\n0\n")
    found = fddb.read_detections(path)["2002/img_1"]
    assert (found.boxes.tolist(), found.scores.tolist()) == ([[1, 2, 4, 6]], [0.5])
    path.write_text("2002/img_1.jpg\n1\n1 2 3 4 5 0.5\n")
    np.testing.assert_array_equal(fddb.read_detections(path)["2002/img_1"], [[1, 2, 3, 4, 5, 0.5]])
    path.write_text("2002/img_1\n2\n1 2 3 4 0.5\n")
    with pytest.raises(ValueError, match="found.txt:4: expected 5 or 6 numbers"):
        fddb.read_detections(path)
    with pytest.raises(FileNotFoundError, match="no FDDB-fold"):
        fddb.read_ellipses(tmp_path / "none")
