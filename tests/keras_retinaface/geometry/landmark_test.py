import numpy as np
import tensorflow as tf

from keras_retinaface.geometry import landmark


def _random_landmarks(num):
    return np.random.default_rng(0).uniform(0, 100, (num, 5, 2)).astype(np.float32)


def test_encode_worked_example():
    # Anchor 20 x 10 centred at (10, 5); a point at (14, 4) is (4 / 20, -1 / 10) over 0.1.
    points = tf.tile(tf.constant([[[14.0, 4.0]]]), [1, 5, 1])
    deltas = landmark.encode(points, tf.constant([[0.0, 0.0, 20.0, 10.0]]), 0.1)
    np.testing.assert_allclose(deltas, np.tile([[[2.0, -1.0]]], (1, 5, 1)), rtol=1e-5)


def test_decode_inverts_encode():
    points = _random_landmarks(7)
    anchors = tf.tile(tf.constant([[3.0, 4.0, 40.0, 50.0]]), [7, 1])
    decoded = landmark.decode(landmark.encode(points, anchors, 0.1), anchors, 0.1)
    np.testing.assert_allclose(decoded, points, atol=1e-4)


def test_mirror_swaps_sides():
    points = tf.constant([[[10.0, 1.0], [30.0, 2.0], [20.0, 3.0], [12.0, 4.0], [28.0, 5.0]]])
    expected = [[[70.0, 2.0], [90.0, 1.0], [80.0, 3.0], [72.0, 5.0], [88.0, 4.0]]]
    np.testing.assert_array_equal(landmark.mirror(points, 100), expected)


def test_mirror_twice_is_identity():
    points = _random_landmarks(3)
    np.testing.assert_allclose(landmark.mirror(landmark.mirror(points, 640), 640), points, atol=1e-4)
