import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import losses
from keras_retinaface.geometry import matcher


def _logits(face_probabilities):
    p = np.asarray(face_probabilities, np.float64)
    return tf.constant(np.stack([np.log(1 - p), np.log(p)], -1), tf.float32)


def test_score_loss_worked_example():
    # One positive at p = 0.8. Backgrounds at p = 0.9, 0.5, 0.1, 0.2; two per positive are kept: the first two.
    scores = _logits([[0.8, 0.9, 0.5, 0.1, 0.2, 0.7]])
    state = tf.constant([[matcher.POSITIVE] + [matcher.NEGATIVE] * 4 + [matcher.IGNORED]])
    total, count = losses.score_loss(scores, state, 2.0)
    np.testing.assert_allclose(total, -np.log(0.8) - np.log(0.1) - np.log(0.5), rtol=1e-5)
    assert count == 3


def test_score_loss_of_an_image_without_faces_keeps_the_hardest_negatives():
    total, count = losses.score_loss(_logits([[0.9, 0.5, 0.1, 0.2]]), tf.fill([1, 4], matcher.NEGATIVE), 3.0)
    np.testing.assert_allclose(total, -np.log(0.1) - np.log(0.5) - np.log(0.8), rtol=1e-5)
    assert count == 3


def test_score_loss_counts_each_image_by_itself():
    # The second image has no face: it may not borrow negatives from the first.
    scores = _logits([[0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.9, 0.9]])
    state = tf.constant([[1, 1, 0, 0], [0, 0, 0, 0]])
    total, count = losses.score_loss(scores, state, 1.0)
    np.testing.assert_allclose(total, 4 * np.log(2) - np.log(0.1), rtol=1e-5)
    assert count == 5


def test_box_loss_worked_example():
    # Differences 0.5, 2, 0, -3: 0.125 + 1.5 + 0 + 2.5; the second anchor is background.
    deltas = tf.constant([[[0.5, 2.0, 0.0, -3.0], [9.0, 9.0, 9.0, 9.0]]])
    total, count = losses.box_loss(deltas, tf.zeros_like(deltas), tf.constant([[1, 0]]))
    assert (float(total), float(count)) == (4.125, 1.0)


def test_landmark_loss_takes_only_labelled_points():
    deltas = tf.ones([1, 2, 5, 2]) * 2.0  # each coordinate costs 1.5
    weight = tf.constant([[[1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5]])
    total, count = losses.landmark_loss(deltas, tf.zeros_like(deltas), weight)
    np.testing.assert_allclose([total, count], [6.0, 0.4])


@pytest.mark.parametrize("state", [matcher.NEGATIVE, matcher.IGNORED])
def test_nothing_to_learn_gives_finite_loss_and_zero_gradient(state):
    rng = np.random.default_rng(0)
    scores, boxes = (tf.Variable(rng.normal(size=(2, 6, n)).astype(np.float32)) for n in (2, 4))
    points = tf.Variable(rng.normal(size=(2, 6, 5, 2)).astype(np.float32))
    states = tf.fill([2, 6], state)
    with tf.GradientTape() as tape:
        class_term = losses.score_loss(scores, states, 3.0)
        terms = [class_term, losses.box_loss(boxes, tf.zeros_like(boxes), states)]
        terms.append(losses.landmark_loss(points, tf.zeros_like(points), tf.zeros([2, 6, 5])))
        loss = tf.add_n([total / tf.maximum(count, 1.0) for total, count in terms])
    gradients = tape.gradient(loss, [scores, boxes, points])
    assert np.isfinite(loss)
    for gradient in gradients[1:]:
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
    assert np.any(gradients[0]) == (state == matcher.NEGATIVE)


def test_gradients_equal_finite_differences():
    rng = np.random.default_rng(1)
    state = tf.constant([[1, 0, 0, 0, -1, 0]])
    target, weight = tf.zeros([1, 6, 5, 2]), tf.constant(rng.integers(0, 2, (1, 6, 5)), tf.float32)
    functions = {
        (1, 6, 2): lambda x: losses.score_loss(x, state, 2.0)[0],
        (1, 6, 4): lambda x: losses.box_loss(x, tf.zeros_like(x), state)[0],
        (1, 6, 5, 2): lambda x: losses.landmark_loss(x, target, weight)[0],
    }
    for shape, function in functions.items():
        point = tf.constant(rng.normal(size=shape) * 1.5, tf.float32)
        theoretical, numerical = tf.test.compute_gradient(function, [point], delta=1e-2)
        np.testing.assert_allclose(theoretical[0], numerical[0], atol=2e-3)


def test_recall_worked_example():
    found, positive = losses.recall(_logits([[0.6, 0.4, 0.9]]), tf.constant([[1, 1, 0]]))
    assert (float(found), float(positive)) == (1.0, 2.0)
