import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import target
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, landmark, matcher

_SIZE = (96, 128)
_ANCHORS = config_lib.Anchors()


def _batch(boxes, num_faces, is_ignored=None, visible=None, rng=None):
    boxes = np.asarray(boxes, np.float32)
    rng = rng or np.random.default_rng(0)
    points = (
        boxes[..., None, :2] + rng.random((*boxes.shape[:2], 5, 2)) * (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    )
    return {
        "boxes": tf.constant(boxes),
        "landmarks": tf.constant(points, tf.float32),
        "landmark_visible": tf.constant(np.ones(points.shape[:-1], bool) if visible is None else visible),
        "is_ignored": tf.constant(np.zeros(boxes.shape[:2], bool) if is_ignored is None else np.asarray(is_ignored)),
        "num_faces": tf.constant(num_faces, tf.int32),
    }


def test_worked_example():
    # Anchor (0, 0) of stride 8 and size 16 is (-4, -4, 12, 12). The face (-2, -4, 14, 12) shares 14 x 16 of 288: 0.78.
    sample = _batch([[[-2, -4, 14, 12]]], [1], visible=np.array([[[True, True, False, True, True]]]))
    sample["landmarks"] = tf.constant([[[[4, 4], [12, 4], [9, 9], [4, 12], [12, 20]]]], tf.float32)
    encoded = target.encode(sample, _SIZE, _ANCHORS)
    assert encoded["state"][0, 0] == matcher.POSITIVE
    # Moved by 2 of 16 pixels over a variance of 0.1; equal size.
    np.testing.assert_allclose(encoded["box_deltas"][0, 0], [1.25, 0, 0, 0], atol=1e-6)
    points = [[0, 0], [5, 0], [0, 0], [0, 5], [5, 10]]
    np.testing.assert_allclose(encoded["landmark_deltas"][0, 0], points, atol=1e-5)
    np.testing.assert_array_equal(encoded["landmark_weight"][0, 0], [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(encoded["matched_box"][0, 0], [-2, -4, 14, 12])


@pytest.mark.parametrize("preset", ["mobilenet025", "paper_resnet50"])
def test_decoding_gives_the_faces_back(preset):
    anchors = config_lib.Config.preset(preset).anchors
    boxes = [[[10, 12, 40, 50], [60, 8, 72, 22], [0, 0, 0, 0]], [[20, 5, 110, 95], [3, 70, 11, 78], [80, 70, 100, 90]]]
    sample = _batch(boxes, [2, 3])
    encoded = {key: value.numpy() for key, value in target.encode(sample, _SIZE, anchors).items()}
    everywhere = anchor.generate(_SIZE, anchors.strides, anchors.sizes)
    is_positive = encoded["state"] == matcher.POSITIVE
    decoded = box.decode(encoded["box_deltas"], everywhere, anchors.variances).numpy()
    np.testing.assert_allclose(decoded[is_positive], encoded["matched_box"][is_positive], atol=1e-3)
    points = landmark.decode(encoded["landmark_deltas"], everywhere, anchors.variances[0]).numpy()
    for image, num in enumerate([2, 3]):
        for face in range(num):
            mine = is_positive[image] & (encoded["matched_box"][image] == np.float32(boxes[image][face])).all(-1)
            assert mine.any()
            np.testing.assert_allclose(points[image][mine], [sample["landmarks"][image, face]] * mine.sum(), atol=1e-3)
    for key in ("box_deltas", "landmark_deltas", "landmark_weight", "matched_box"):
        assert not encoded[key][~is_positive].any(), key


def test_padding_is_no_face():
    real = [[10, 12, 40, 50], [60, 8, 72, 22]]
    alone = target.encode(_batch([real], [2]), _SIZE, _ANCHORS)
    for rubbish in ([70, 60, 90, 80], [0, 0, 0, 0], [np.nan] * 4):
        padded = target.encode(_batch([[*real, rubbish]], [2], rng=np.random.default_rng(0)), _SIZE, _ANCHORS)
        for key in ("state", "box_deltas", "matched_box"):
            np.testing.assert_array_equal(padded[key], alone[key])


def test_empty_and_ignored():
    boxes = np.tile(np.float32([[[8, 8, 40, 40]]]), (3, 1, 1))
    encoded = target.encode(_batch(boxes, [0, 1, 1], [[False], [True], [False]]), _SIZE, _ANCHORS)
    empty, ignored, real = encoded["state"].numpy()
    assert (empty == matcher.NEGATIVE).all()
    assert set(ignored) == {matcher.NEGATIVE, matcher.IGNORED}
    assert (real == matcher.POSITIVE).any()
    # What is positive for a face is hidden by the same face ignored.
    assert (ignored[real == matcher.POSITIVE] == matcher.IGNORED).all()
    assert all(np.isfinite(value).all() for value in encoded.values())
    nothing = target.encode(_batch(np.zeros((2, 0, 4)), [0, 0]), _SIZE, _ANCHORS)
    assert not any(value.numpy().any() for value in nothing.values())


def test_unlabelled_points_are_zero_even_if_not_finite():
    sample = _batch([[[10, 12, 40, 50]]], [1], visible=np.zeros((1, 1, 5), bool))
    sample["landmarks"] = tf.fill([1, 1, 5, 2], np.nan)
    encoded = target.encode(sample, _SIZE, _ANCHORS)
    assert not encoded["landmark_deltas"].numpy().any() and not encoded["landmark_weight"].numpy().any()


def test_in_graph_as_eager():
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 80, (2, 9, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 40, (2, 9, 2))], -1)
    sample = _batch(boxes, [9, 4], rng.random((2, 9)) < 0.2, rng.random((2, 9, 5)) < 0.6)
    eager = target.encode(sample, _SIZE, _ANCHORS)
    (mapped,) = tf.data.Dataset.from_tensors(sample).map(lambda sample: target.encode(sample, _SIZE, _ANCHORS))
    assert mapped.keys() == eager.keys()
    for key, value in eager.items():
        np.testing.assert_allclose(mapped[key], value, atol=1e-5, err_msg=key)
    unpadded = tf.function(
        lambda s: target.encode(s, _SIZE, _ANCHORS),
        input_signature=[
            {k: tf.TensorSpec([None, None, *v.shape[2:]][: len(v.shape)], v.dtype) for k, v in sample.items()}
        ],
    )(sample)
    np.testing.assert_array_equal(unpadded["state"], eager["state"])
