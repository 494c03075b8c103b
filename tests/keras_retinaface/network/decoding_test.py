import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box
from keras_retinaface.network import decoding

ANCHORS = config_lib.Anchors(strides=(8,), sizes=((16.0,),))
SIZE = (16, 24)  # 2 x 3 locations, one anchor each
DETECTION = config_lib.Detection(score_threshold=0.5, iou_threshold=0.4, max_faces=4)


def _outputs(probabilities, box_deltas=None):
    p = np.asarray(probabilities, np.float64)
    logits = np.stack([np.zeros_like(p), np.log(p / (1 - p))], -1).astype(np.float32)
    shape = p.shape
    return {
        "scores": tf.constant(logits),
        "box_deltas": tf.zeros([*shape, 4]) if box_deltas is None else tf.constant(box_deltas, tf.float32),
        "landmark_deltas": tf.ones([*shape, 5, 2]),
    }


def test_worked_example():
    # Anchors of 16 px stand 8 px apart: neighbours overlap 128 / 384 = 1/3, under the threshold of 0.4, so both stay.
    found = decoding.decode(_outputs([[0.9, 0.8, 0.1, 0.2, 0.3, 0.6]]), SIZE, ANCHORS, DETECTION)
    np.testing.assert_array_equal(found["count"], [3])
    np.testing.assert_allclose(found["scores"], [[0.9, 0.8, 0.6, 0.0]], atol=1e-6)
    np.testing.assert_allclose(
        found["boxes"][0], [[-4, -4, 12, 12], [4, -4, 20, 12], [12, 4, 28, 20], [0, 0, 0, 0]], atol=1e-5
    )
    # A landmark offset of 1 is a tenth of the anchor, 1.6 px, from its centre (4, 4).
    np.testing.assert_allclose(found["landmarks"][0, 0], np.full((5, 2), 5.6), atol=1e-5)
    np.testing.assert_array_equal(found["landmarks"][0, 3], np.zeros((5, 2)))


def test_overlapping_detections_keep_the_best():
    deltas = np.zeros((1, 6, 4))
    deltas[0, 1, 0] = -5.0  # moves the second anchor by -5 * 0.1 * 16 = -8 px, onto the first
    found = decoding.decode(_outputs([[0.8, 0.9, 0.1, 0.1, 0.1, 0.1]], deltas), SIZE, ANCHORS, DETECTION)
    np.testing.assert_array_equal(found["count"], [1])
    np.testing.assert_allclose(found["scores"][0, 0], 0.9, atol=1e-6)


def test_no_face_is_all_zeros():
    found = decoding.decode(_outputs([[0.1] * 6]), SIZE, ANCHORS, DETECTION)
    assert found["count"] == 0
    for name in ("boxes", "scores", "landmarks"):
        np.testing.assert_array_equal(found[name], np.zeros_like(found[name]))


def test_batch_of_unknown_size_in_graph_equals_eager():
    outputs = _outputs(np.random.default_rng(0).uniform(0.01, 0.99, (3, 6)))
    specs = {name: tf.TensorSpec([None, *value.shape[1:]]) for name, value in outputs.items()}
    function = tf.function(
        lambda outputs: decoding.decode(outputs, tf.constant(SIZE), ANCHORS, DETECTION), input_signature=[specs]
    )
    eager = decoding.decode(outputs, SIZE, ANCHORS, DETECTION)
    for name, value in function(outputs).items():
        np.testing.assert_allclose(value, eager[name], atol=1e-6)


def test_equals_a_slow_numpy_twin():
    rng = np.random.default_rng(1)
    anchors = config_lib.Anchors()
    size = (96, 128)
    boxes = anchor.generate(size, anchors.strides, anchors.sizes)
    probabilities = rng.uniform(0.01, 0.99, (1, len(boxes)))
    deltas = rng.normal(size=(1, len(boxes), 4))
    detection = config_lib.Detection(score_threshold=0.3, max_faces=100)
    found = decoding.decode(_outputs(probabilities, deltas), size, anchors, detection)

    decoded = box.decode(tf.constant(deltas[0], tf.float32), boxes, anchors.variances).numpy()
    overlaps = box.iou(decoded, decoded).numpy()
    kept = []
    for index in np.argsort(-probabilities[0], kind="stable"):
        if probabilities[0, index] > 0.3 and all(overlaps[index, other] <= 0.4 for other in kept):
            kept.append(index)
    kept = kept[:100]
    count = int(found["count"][0])
    assert count == len(kept)
    np.testing.assert_allclose(found["boxes"][0, :count], decoded[kept], atol=1e-3)


def test_only_the_best_candidates_enter_suppression():
    # Two boxes on one face, and a third that scores less: with two candidates it is not looked at.
    deltas = np.zeros((1, 6, 4))
    deltas[0, 1, 0] = -5.0
    outputs = _outputs([[0.9, 0.8, 0.7, 0.1, 0.1, 0.1]], deltas)
    for num, count in ((3, 2), (2, 1)):
        detection = dataclasses.replace(DETECTION, max_candidates=num)
        found = decoding.decode(outputs, SIZE, ANCHORS, detection)
        np.testing.assert_array_equal(found["count"], [count])


def test_a_face_is_the_mean_of_what_overlaps_it():
    deltas = np.zeros((1, 6, 4))
    deltas[0, 1, 0] = -3.75  # moves the second anchor by 6 px to the left, to 2 px right of the first: overlap 7/9
    voting = dataclasses.replace(DETECTION, voting_iou=0.5)
    # The third does not overlap enough, the others would but are under the threshold of the scores.
    outputs = _outputs([[0.9, 0.6, 0.8, 0.2, 0.3, 0.1]], deltas)
    found = decoding.decode(outputs, SIZE, ANCHORS, voting)
    shift = 2.0 * 0.36 / (0.81 + 0.36)
    np.testing.assert_array_equal(found["count"], [2])
    np.testing.assert_allclose(found["boxes"][0, 0], [-4 + shift, -4, 12 + shift, 12], atol=1e-5)
    np.testing.assert_allclose(found["boxes"][0, 1:], [[12, -4, 28, 12], [0] * 4, [0] * 4], atol=1e-5)
    plain = decoding.decode(outputs, SIZE, ANCHORS, DETECTION)
    for name in ("scores", "landmarks", "count"):
        np.testing.assert_array_equal(found[name], plain[name])


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_voting_without_faces_or_with_scores_near_zero_is_finite(threshold):
    voting = config_lib.Detection(score_threshold=threshold, max_faces=4, voting_iou=0.5)
    for probability in (1e-30, 0.4):
        found = decoding.decode(_outputs([[probability] * 6]), SIZE, ANCHORS, voting)
        plain = decoding.decode(
            _outputs([[probability] * 6]), SIZE, ANCHORS, dataclasses.replace(voting, voting_iou=0.0)
        )
        # Neighbours overlap by a third, so each face votes alone.
        np.testing.assert_allclose(found["boxes"], plain["boxes"], atol=1e-4)
        np.testing.assert_array_equal(found["count"], plain["count"])


def test_a_kept_face_brings_its_anchor_and_its_row_of_the_dense_head():
    # The best anchor is the last one, whose square is (12, 4) to (28, 20); its row of codes holds fives.
    outputs = _outputs([[0.6, 0.1, 0.1, 0.1, 0.1, 0.9]])
    outputs["mesh_code"] = tf.repeat(tf.range(6.0)[None, :, None], 144, axis=2)
    for batch in (slice(0, 1), None):
        if batch is None:
            signature = {name: tf.TensorSpec([None, *value.shape[1:]]) for name, value in outputs.items()}
            found = tf.function(
                lambda rows: decoding.decode(rows, SIZE, ANCHORS, DETECTION), input_signature=[signature]
            )(outputs)
        else:
            found = decoding.decode(outputs, SIZE, ANCHORS, DETECTION)
        assert found["dense"].shape == (1, 4, 148)
        np.testing.assert_allclose(found["dense"][0, :, :4], [[12, 4, 28, 20], [-4, -4, 12, 12], [0] * 4, [0] * 4])
        np.testing.assert_array_equal(found["dense"][0, :, 4:], np.outer([5, 0, 0, 0], np.ones(144)))
