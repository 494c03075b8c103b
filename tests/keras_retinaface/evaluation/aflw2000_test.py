import numpy as np
import pytest
import scipy.io

from keras_retinaface.evaluation import aflw2000
from tests import conftest


def test_nme_worked_example():
    # Two points, off by (3, 4) and by nothing: 2.5 pixels on average, over a size of 50.
    truth = np.array([[[0, 0], [10, 10]]])
    assert aflw2000.nme(truth + [[[3, 4], [0, 0]]], truth, np.array([50.0])) == pytest.approx([0.05])


def test_depth_counts_unless_only_its_mean_is_off():
    truth = np.random.default_rng(0).normal(size=(3, 100, 3))
    shifted = truth + [0, 0, 7]
    size = np.full(3, 70.0)
    np.testing.assert_allclose(aflw2000.nme(shifted, truth, size), 0.1)
    np.testing.assert_allclose(aflw2000.nme(shifted, truth, size, has_aligned_depth=True), 0, atol=1e-15)
    bent = truth + np.where(np.arange(100) < 50, 7.0, -7.0)[:, None] * [0, 0, 1]
    np.testing.assert_allclose(aflw2000.nme(bent, truth, size, has_aligned_depth=True), 0.1)


def test_tight_size():
    points = np.random.default_rng(0).uniform(0, 1, (68, 3))
    points[:4, :2] = [[-3, 0], [5, 0.5], [0, -8], [0.5, 10]]  # 8 x 18
    assert aflw2000.tight_size(points[None]) == pytest.approx([12.0])


def test_by_pose_takes_the_mean_of_the_groups():
    means = aflw2000.by_pose(np.array([0.01, 0.03, 0.05, 0.09]), np.array([-10, 30, 45, 95]))
    assert means == pytest.approx({"0-30": 0.02, "30-60": 0.05, "60-90": 0.09, "mean": 0.16 / 3, "all": 0.045})
    assert aflw2000.by_pose(np.array([0.01]), np.array([0]))["mean"] is None


def test_load_aflw2000(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 450, (2, 3, 68))
    for i, yaw in enumerate((0.5, -1.0)):
        pose = np.array([[0.1, yaw, 0.2, 0, 0, 0, 1e-3]])
        scipy.io.savemat(tmp_path / f"image0000{i}.mat", {"pt3d_68": points[i], "Pose_Para": pose})
    truth = aflw2000.load(tmp_path)
    assert truth.names == ("image00000.jpg", "image00001.jpg")
    np.testing.assert_array_equal(truth.landmarks, points.transpose(0, 2, 1))
    np.testing.assert_allclose(truth.yaw, np.degrees([0.5, -1.0]))
    scipy.io.savemat(tmp_path / "image00002.mat", {"pt2d": np.zeros(3)})
    with pytest.raises(ValueError, match=r"image00002.mat: expected `pt3d_68` \[3, 68\]"):
        aflw2000.load_aflw2000(tmp_path)
    with pytest.raises(FileNotFoundError, match="no .mat files"):
        aflw2000.load_aflw2000(tmp_path / "none")


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"must both be \[N, P, 2\].* Received: \(1, 68, 2\) and \(1, 68, 3\)"):
        aflw2000.nme(np.zeros((1, 68, 2)), np.zeros((1, 68, 3)), np.ones(1))


def test_evaluate_goes_by_name_and_counts_what_is_missing(tmp_path):
    rng = np.random.default_rng(0)
    landmarks, vertices = rng.uniform(0, 100, (3, 68, 3)), rng.uniform(0, 100, (3, 500, 3))
    truth = aflw2000.Meshes(("a", "b", "c"), landmarks, vertices, np.array([10.0, 40, 70]))
    size = aflw2000.tight_size(landmarks)
    # In another order, without "b"; points off by (3, 4) pixels, vertices by a depth that alignment takes away.
    order = [2, 0]
    path = tmp_path / "found.npz"
    np.savez(path, names=["c", "a"], landmarks=landmarks[order] + [3, 4, 0], vertices=vertices[order] + [0, 0, 9])
    numbers = aflw2000.evaluate(aflw2000.load(path), truth)
    assert (numbers["faces"], numbers["missing"]) == (2, 1)
    for kind in ("points_2d", "points_3d"):
        assert numbers[kind]["0-30"] == pytest.approx(5 / size[0]) and numbers[kind]["30-60"] is None
        assert numbers[kind]["60-90"] == pytest.approx(5 / size[2])
    assert numbers["vertices_3d"]["all"] == pytest.approx(0, abs=1e-12)


def test_meshes_that_cannot_be_compared_are_named(tmp_path):
    truth = aflw2000.Meshes(("a",), np.ones((1, 68, 3)), yaw=np.zeros(1))
    with pytest.raises(ValueError, match="no face is in both; predicted are .'b',. .., true .'a',. .."):
        aflw2000.evaluate(aflw2000.Meshes(("b",), np.ones((1, 68, 3))), truth)
    with pytest.raises(ValueError, match="neither landmarks nor vertices in common"):
        aflw2000.evaluate(aflw2000.Meshes(("a",), vertices=np.ones((1, 9, 3))), truth)
    np.savez(tmp_path / "x.npz", names=["a", "b"], landmarks=np.ones((1, 68, 3)))
    with pytest.raises(ValueError, match="x.npz: expected 2 rows in `landmarks`. Received: 1"):
        aflw2000.load(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", landmarks=np.ones((1, 68, 3)))
    with pytest.raises(ValueError, match="y.npz: expected `names`. Received: .'landmarks'."):
        aflw2000.load(tmp_path / "y.npz")


def test_a_damaged_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="dense.npz: not a readable .npz file: "):
        aflw2000.load(conftest.ROOT / "tests" / "testdata" / "cases" / "damaged_files" / "dense.npz")
    np.savez(tmp_path / "a.npz", names=["a"], landmarks=np.array([["x"]]))
    with pytest.raises(ValueError, match="a.npz: `landmarks` must be numbers with 3 axes. Received: <U1"):
        aflw2000.load(tmp_path / "a.npz")
