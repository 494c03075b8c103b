import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.mesh import camera, face_model

STRAIGHT = (0.0, 0.0, camera.DISTANCE, 0.0, 0.0, 0.0, camera.FOCAL)


def project(points, numbers, aspect_ratio=1.0):
    return camera.project(tf.constant(points, tf.float32), tf.constant(numbers, tf.float32), aspect_ratio).numpy()


def test_worked_example():
    # Focal length 6 at 60 cm: 10 cm fill half the image. The pivot is at its centre, x goes right, y up.
    pivot = np.array(camera.PIVOT)
    points = [pivot, pivot + [10, 0, 0], pivot + [0, 10, 0], pivot + [-5, -5, 0], pivot + [5, 0, 30]]
    expected = [[0.5, 0.5], [1, 0.5], [0.5, 0], [0.25, 0.75], [1, 0.5]]
    np.testing.assert_allclose(project(points, STRAIGHT), expected, atol=1e-6)
    # In an image twice as wide the same x is half as far from the centre.
    np.testing.assert_allclose(project(points[1:2], STRAIGHT, 2.0), [[0.75, 0.5]], atol=1e-6)


@pytest.mark.parametrize(
    "pose, point, expected",
    [
        ((np.pi / 2, 0, 0), (0, 10, 0), (0.5, 0.5)),
        ((0, np.pi / 2, 0), (0, 0, 10), (1, 0.5)),
        ((0, 0, np.pi / 2), (10, 0, 0), (0.5, 0)),
    ],
)
def test_pose_turns_about_its_axes(pose, point, expected):
    numbers = (*STRAIGHT[:3], *pose, camera.FOCAL)
    np.testing.assert_allclose(project([np.add(camera.PIVOT, point)], numbers), [expected], atol=1e-5)


@pytest.mark.parametrize("pose", [(0, 0, 0), (0.3, 0, 0), (-0.2, 0.5, 0), (0.1, -0.6, 0.4), (0, 0.2, -1.2)])
def test_five_points_tell_the_camera(pose):
    face = face_model.load()
    model_points = face.five_points(face.mean)
    truth = tf.constant([[2.0, -3.0, 70.0, *pose, camera.FOCAL]], tf.float32)
    points = camera.project(tf.constant(model_points[None]), truth)
    guess = camera.from_five_points(points, model_points)
    np.testing.assert_allclose(guess[0, 3:6], truth[0, 3:6], atol=0.08)
    np.testing.assert_allclose(guess[0, 2], 70, atol=3.5)
    # What matters is where the points fall: within 1 % of the image.
    np.testing.assert_allclose(camera.project(tf.constant(model_points[None]), guess), points, atol=0.01)


def test_five_equal_points_give_a_finite_camera():
    face = face_model.load()
    guess = camera.from_five_points(tf.fill((1, 5, 2), 0.5), face.five_points(face.mean))
    assert np.isfinite(guess.numpy()).all()


def test_unpack_starts_at_the_start_and_stays_finite():
    start = tf.constant([STRAIGHT, (1, 2, 40, 0.1, 0.2, 0.3, 5)], tf.float32)
    numbers, light = camera.unpack(tf.zeros((2, 16)), start)
    np.testing.assert_allclose(numbers, start, rtol=1e-6)
    np.testing.assert_allclose(light, [camera.LIGHT] * 2, rtol=1e-6)
    # One unit sideways is 5 % of half the image.
    moved, _ = camera.unpack(tf.one_hot([0], 16), start[:1])
    shift = project([camera.PIVOT], moved[0]) - project([camera.PIVOT], start[0])
    np.testing.assert_allclose(shift, [[-0.025, 0]], atol=1e-6)
    for extreme in (-1e6, 1e6):
        numbers, light = camera.unpack(tf.fill((2, 16), extreme), start)
        assert np.isfinite(numbers).all() and np.isfinite(light).all()
        assert (numbers.numpy()[:, [2, 6]] > 0).all() and (light.numpy()[:, 3:] > 0).all()


@pytest.mark.parametrize("aspect_ratio", [1.0, 1.6])
def test_view_and_projection_are_those_of_tensorflow_graphics(aspect_ratio):
    from tensorflow_graphics.geometry.transformation import rotation_matrix_3d
    from tensorflow_graphics.rendering.camera import perspective

    numbers = tf.random.stateless_normal((2, 3, 7), (1, 2)) + STRAIGHT
    rotation = rotation_matrix_3d.from_euler(numbers[..., 3:6])
    ones = tf.ones((2, 3, 1))
    projection = perspective.right_handed(
        2 * tf.atan(1 / numbers[..., 6:]), aspect_ratio * ones, camera.NEAR * ones, camera.FAR * ones
    )
    points = tf.random.stateless_normal((2, 3, 4, 3), (3, 4))
    seen = tf.einsum("...ij,...nj->...ni", rotation, points - tf.constant(camera.PIVOT)) - numbers[..., None, :3]
    clip = tf.einsum("...ij,...nj->...ni", projection, tf.concat([seen, tf.ones_like(seen[..., :1])], -1))
    found = tf.einsum(
        "...ij,...nj->...ni",
        camera.view_projection(numbers, aspect_ratio),
        tf.concat([points, tf.ones_like(points[..., :1])], -1),
    )
    np.testing.assert_allclose(found, clip, rtol=1e-5, atol=1e-4)


def test_start_camera_follows_points_and_falls_back_to_the_box():
    face = face_model.load()
    crop_boxes = tf.constant([[100.0, 50.0, 200.0, 150.0]])
    truth = tf.constant([[1.0, -2.0, 80.0, 0.1, 0.3, -0.2, camera.FOCAL]])
    mean = tf.constant(face.mean[None])
    outline = camera.project(mean, truth)[0] * 100 + [100, 50]
    boxes = tf.concat([tf.reduce_min(outline, 0), tf.reduce_max(outline, 0)], 0)[None]
    points = camera.project(tf.constant(face.five_points(face.mean)[None]), truth) * 100 + [100, 50]
    start = camera.start_camera(boxes, points, crop_boxes, face)
    np.testing.assert_allclose(camera.project(mean, start), camera.project(mean, truth), atol=0.02)
    for wrong in (points * 0, points + 60, points / 0):
        start = camera.start_camera(boxes, wrong, crop_boxes, face)
        np.testing.assert_array_equal(start[0, 3:6], 0)
        outline = camera.project(mean, start)[0] * 100 + [100, 50]
        found = tf.concat([tf.reduce_min(outline, 0), tf.reduce_max(outline, 0)], 0)
        np.testing.assert_allclose(found, boxes[0], atol=9)
