import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.geometry import box, matcher
from keras_retinaface.network import losses


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


def _focal(x, state):
    return losses.focal_loss(x, state, gamma=2.0, alpha=0.25)


def _quality(x, state):
    return losses.quality_loss(x, state, tf.fill(state.shape, 0.7), gamma=2.0, alpha=0.25)


def _overlap(kind):
    def loss(x, state):
        anchors = tf.constant([[8.0 * i, 4.0 * i, 8.0 * i + 16.0, 4.0 * i + 16.0] for i in range(x.shape[1])])
        faces = anchors + [3.0, -2.0, 9.0, 1.0]
        matched = tf.where(tf.equal(state, matcher.POSITIVE)[..., None], faces, tf.zeros_like(faces))
        return losses.overlap_loss(x, matched, state, anchors=anchors, variances=(0.1, 0.2), kind=kind)

    return loss


# Name -> shape of one anchor's outputs, and the loss of outputs and state.
_LOSSES = {
    "score": ((2,), lambda x, state: losses.score_loss(x, state, 2.0)),
    "focal": ((2,), _focal),
    "quality": ((2,), _quality),
    "box": ((4,), lambda x, state: losses.box_loss(x, tf.zeros_like(x), state)),
    "giou": ((4,), _overlap("giou")),
    "ciou": ((4,), _overlap("ciou")),
    "eiou": ((4,), _overlap("eiou")),
    "landmark": (
        (5, 2),
        lambda x, state: losses.landmark_loss(
            x, tf.zeros_like(x), tf.repeat(tf.cast(tf.equal(state, 1), tf.float32)[..., None], 5, -1)
        ),
    ),
}


def test_focal_loss_worked_example():
    # A face at p = 0.8: 0.25 * 0.2^2 * -log 0.8. Background at p = 0.9: 0.75 * 0.9^2 * -log 0.1. The last is ignored.
    total, count = _focal(_logits([[0.8, 0.9, 0.7]]), tf.constant([[1, 0, -1]]))
    np.testing.assert_allclose(total, 0.25 * 0.04 * -np.log(0.8) + 0.75 * 0.81 * -np.log(0.1), rtol=1e-5)
    assert count == 1


def test_focal_loss_without_focus_is_half_the_cross_entropy():
    scores, state = _logits([[0.8, 0.3, 0.5]]), tf.constant([[1, 0, 1]])
    focal, _ = losses.focal_loss(scores, state, gamma=0.0, alpha=0.5)
    np.testing.assert_allclose(focal, 0.5 * losses.score_loss(scores, state, 1.0)[0], rtol=1e-6)


def test_quality_loss_worked_example():
    # A face at p = 0.8 that should be 0.7; background at p = 0.9 counts .75 * 0.9^2; the last is ignored.
    scores, state = tf.Variable(_logits([[0.8, 0.9, 0.7]])), tf.constant([[1, 0, -1]])
    with tf.GradientTape() as tape:
        total, count = _quality(scores, state)
    weight = 0.75 * 0.81
    np.testing.assert_allclose(total, -0.7 * np.log(0.8) - 0.3 * np.log(0.2) - weight * np.log(0.1), rtol=1e-5)
    assert count == 1
    # The weight is held: cross entropy's p - q is all there is.
    slope = np.array([0.8 - 0.7, weight * 0.9, 0.0])
    np.testing.assert_allclose(tape.gradient(total, scores)[0], np.stack([-slope, slope], -1), rtol=1e-4, atol=1e-7)


def test_quality_is_the_overlap_of_the_predicted_box():
    # Anchor and prediction are [0, 0, 20, 20], the face [10, 10, 30, 30]: 100 of 700; background has none.
    deltas = tf.Variable([[[0.0] * 4, [5.0] * 4]])
    with tf.GradientTape() as tape:
        quality = losses.quality(
            deltas,
            tf.constant([[[10.0, 10, 30, 30], [0] * 4]]),
            tf.constant([[1, 0]]),
            anchors=tf.constant([[0.0, 0, 20, 20], [0, 0, 16, 16]]),
            variances=(0.1, 0.2),
        )
    np.testing.assert_allclose(quality, [[1 / 7, 0]], rtol=1e-5)
    assert tape.gradient(quality, deltas) is None


@pytest.mark.parametrize("kind", ["giou", "ciou", "eiou"])
def test_overlap_loss_worked_example(kind):
    # The prediction is the anchor, [0, 0, 20, 20]; the face [10, 10, 30, 30]: 100 of 700 shared, 200 of the 900 around
    # them covered by neither, centres 10 and 10 apart of a diagonal of 30 and 30, one shape.
    expected = {"giou": 1 - 100 / 700 + 200 / 900, "ciou": 1 - 100 / 700 + 200 / 1800}
    expected = {**expected, "eiou": expected["ciou"]}[kind]
    total, count = losses.overlap_loss(
        tf.constant([[[0.0] * 4, [5.0] * 4]]),
        tf.constant([[[10.0, 10, 30, 30], [0] * 4]]),
        tf.constant([[1, 0]]),
        anchors=tf.constant([[0.0, 0, 20, 20], [0, 0, 16, 16]]),
        variances=(0.1, 0.2),
        kind=kind,
    )
    np.testing.assert_allclose([total, count], [expected, 1.0], rtol=1e-5)


def test_overlap_loss_reads_offsets_as_detection_does():
    # Exact offsets of the face cost nothing.
    anchors, face = tf.constant([[0.0, 0, 16, 16]]), tf.constant([[[3.0, -4, 30, 12]]])
    deltas = box.encode(face, anchors, (0.1, 0.2))
    for kind in ("giou", "ciou", "eiou"):
        total, _ = losses.overlap_loss(
            deltas, face, tf.constant([[1]]), anchors=anchors, variances=(0.1, 0.2), kind=kind
        )
        np.testing.assert_allclose(total, 0.0, atol=1e-5)


@pytest.mark.parametrize("name", _LOSSES)
@pytest.mark.parametrize("state", [matcher.NEGATIVE, matcher.IGNORED])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_nothing_to_learn_gives_finite_loss_and_zero_gradient(name, state, scale):
    tail, function = _LOSSES[name]
    outputs = tf.Variable(scale * np.random.default_rng(0).normal(size=(2, 6, *tail)).astype(np.float32))
    states = tf.fill([2, 6], state)
    with tf.GradientTape() as tape:
        total, count = function(outputs, states)
        loss = total / tf.maximum(count, 1.0)
    gradient = tape.gradient(loss, outputs).numpy()
    assert np.isfinite(loss) and np.all(np.isfinite(gradient))
    learns_background = name in ("score", "focal", "quality") and state == matcher.NEGATIVE
    assert np.any(gradient) == learns_background


@pytest.mark.parametrize("name", [name for name in _LOSSES if name not in ("ciou", "quality")])
def test_gradients_equal_finite_differences(name):
    tail, function = _LOSSES[name]
    rng = np.random.default_rng(1)
    state = tf.constant([[1, 0, 0, 1, -1, 0]])
    point = tf.constant(rng.normal(size=(1, 6, *tail)) * 1.5, tf.float32)
    theoretical, numerical = tf.test.compute_gradient(lambda x: function(x, state)[0], [point], delta=1e-2)
    assert np.abs(numerical[0]).max() > 0.05
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=2e-3)


def _ciou(prediction, face, weight=None):
    """Complete overlap of two boxes in float64, and the weight of their shapes, which counts as a constant."""
    shared = np.prod(np.maximum(np.minimum(prediction[2:], face[2:]) - np.maximum(prediction[:2], face[:2]), 0))
    sizes = [b[2:] - b[:2] for b in (prediction, face)]
    overlap = shared / (np.prod(sizes[0]) + np.prod(sizes[1]) - shared)
    distance = np.sum((prediction[:2] + prediction[2:] - face[:2] - face[2:]) ** 2) / 4
    diagonal = np.sum((np.maximum(prediction[2:], face[2:]) - np.minimum(prediction[:2], face[:2])) ** 2)
    shape = 4 / np.pi**2 * (np.arctan(sizes[1][0] / sizes[1][1]) - np.arctan(sizes[0][0] / sizes[0][1])) ** 2
    weight = shape / (1 - overlap + shape) if weight is None else weight
    return overlap - distance / diagonal - weight * shape, weight


def test_efficient_iou_worked_example():
    # 20 x 20 in 40 x 40 at the same corner: a quarter, centres 10 and 10 apart, sides 20 apart, all around 40 x 40.
    value = box.efficient_iou(tf.constant([[0.0, 0, 20, 20]]), tf.constant([[0.0, 0, 40, 40]]))
    np.testing.assert_allclose(value, [0.25 - 200 / 3200 - 2 * 400 / 1600], rtol=1e-6)


def test_complete_iou_and_its_gradient_with_the_weight_of_shapes_held():
    prediction, face = np.array([2.0, 3.0, 21.0, 12.0]), np.array([5.0, 1.0, 17.0, 25.0])
    value, weight = _ciou(prediction, face)
    boxes = tf.Variable([prediction.astype(np.float32)])
    with tf.GradientTape() as tape:
        ours = box.complete_iou(boxes, tf.constant([face], tf.float32))
    np.testing.assert_allclose(ours[0], value, rtol=1e-5)
    steps = 1e-5 * np.eye(4)
    numerical = [
        (_ciou(prediction + step, face, weight)[0] - _ciou(prediction - step, face, weight)[0]) / 2e-5 for step in steps
    ]
    np.testing.assert_allclose(tape.gradient(ours, boxes)[0], numerical, rtol=1e-4, atol=1e-6)


def test_recall_worked_example():
    found, positive = losses.recall(_logits([[0.6, 0.4, 0.9]]), tf.constant([[1, 1, 0]]))
    assert (float(found), float(positive)) == (1.0, 2.0)
