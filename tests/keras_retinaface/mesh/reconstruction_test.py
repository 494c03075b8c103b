import dataclasses

import numpy as np
import pytest

from keras_retinaface.geometry import landmark
from keras_retinaface.mesh import camera, dense_loss, reconstruction


def _straight(num=1, **numbers):
    """Detections of the mean face, seen from the front, in an anchor from (100, 40) to (164, 104)."""
    decoder = reconstruction.decoder()
    row = np.zeros((num, 148), np.float32)
    row[:, :4] = [100, 40, 164, 104]
    for name, value in numbers.items():
        row[:, 4 + {"code": 0, "camera": 128}[name]] = value
    points = camera.project(decoder.face.mean[None], np.array([[0, 0, 75, 0, 0, 0, camera.FOCAL]], np.float32))
    points = points.numpy() * 64 + [100, 40]
    box = np.concatenate([points.min(1), points.max(1)], 1)
    return np.repeat(box, num, 0), np.repeat(decoder.face.five_points(points), num, 0), row


def test_zeros_are_the_mean_face_where_the_points_are():
    box, five, row = _straight()
    (mesh,) = reconstruction.reconstruct(box, five, row)
    decoder = reconstruction.decoder()
    np.testing.assert_allclose(mesh.vertices, decoder(np.zeros((1, 128), np.float32))[0, :, :3], atol=1e-5)
    assert np.abs(decoder.face.five_points(mesh.points) - five).max() < 1.0
    np.testing.assert_array_equal(mesh.landmarks, mesh.points[decoder.face.landmarks])
    assert abs(mesh.pose["yaw"]) < 2 and abs(mesh.pose["roll"]) < 2 and abs(mesh.pose["pitch"]) < 12
    assert mesh.pose["translation"][2] == pytest.approx(75, rel=0.15)


def test_pose_is_in_degrees():
    box, five, row = _straight(3)
    # A raw unit of an angle is a quarter radian, 14.3 degrees; the order is pitch, yaw, roll.
    for index in range(3):
        row[index, 4 + dense_loss.CODE_SIZE + 3 + index] = 1.0
    meshes = reconstruction.reconstruct(box, five, row)
    poses = np.array([[mesh.pose[name] for name in ("pitch", "yaw", "roll")] for mesh in meshes])
    np.testing.assert_allclose(
        poses - reconstruction.reconstruct(*(a[:1] * [1] for a in _straight()))[0].camera[3:6] * 180 / np.pi,
        np.eye(3) * 14.32,
        atol=0.05,
    )
    # A face that turns to the image's right moves its nose there; one that nods, down.
    nose = np.array([mesh.landmarks[30] for mesh in meshes])
    assert nose[1, 0] > nose[2, 0] + 2 and nose[0, 1] > nose[1, 1] + 2
    assert landmark.NUM_LANDMARKS == 5


def test_picture_lies_on_the_projected_points():
    box, five, row = _straight()
    (mesh,) = reconstruction.reconstruct(box, five, row)
    picture, mask, square = reconstruction.render(mesh)
    assert picture.shape == (*mask.shape, 3) and picture.max() <= 1
    scale = mask.shape[0] / (square[2] - square[0])
    rows, columns = np.nonzero(mask)
    low = np.array([columns.min(), rows.min()]) / scale + square[:2]
    high = (np.array([columns.max(), rows.max()]) + 1) / scale + square[:2]
    np.testing.assert_allclose(low, mesh.points.min(0), atol=1)
    np.testing.assert_allclose(high, mesh.points.max(0), atol=1)


def test_obj_holds_the_mesh(tmp_path):
    box, five, row = _straight()
    (mesh,) = reconstruction.reconstruct(box, five, row)
    mesh = dataclasses.replace(mesh, colours=mesh.colours + 1)
    mesh.write_obj(tmp_path / "face.obj")
    lines = [line.split() for line in (tmp_path / "face.obj").read_text().splitlines()]
    vertices = np.array([line[1:] for line in lines if line[0] == "v"], float)
    corners = np.array([line[1:] for line in lines if line[0] == "f"], int)
    np.testing.assert_allclose(vertices[:, :3], mesh.vertices, atol=1e-4)
    assert vertices[:, 3:].max() == 1  # viewers want colours in 0..1
    np.testing.assert_array_equal(corners - 1, mesh.triangles)


def test_no_face_no_mesh():
    assert reconstruction.reconstruct(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros((0, 148))) == []
