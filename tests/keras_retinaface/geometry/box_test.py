import numpy as np
import tensorflow as tf

from keras_retinaface.geometry import box

VARIANCES = (0.1, 0.2)


def _random_boxes(rng, num):
    corner = rng.uniform(0, 500, (num, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 200, (num, 2))], -1).astype(np.float32)


def test_iou_worked_example():
    # 10 x 10 against the same moved by (5, 0): 50 shared of 150; against one that only touches: 0.
    boxes = tf.constant([[0.0, 0.0, 10.0, 10.0]])
    others = tf.constant([[5.0, 0.0, 15.0, 10.0], [10.0, 0.0, 20.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    np.testing.assert_allclose(box.iou(boxes, others), [[1 / 3, 0.0, 1.0]], rtol=1e-6)


def test_iou_of_empty_boxes_is_zero_and_finite():
    empty = tf.constant([[3.0, 3.0, 3.0, 3.0], [5.0, 5.0, 1.0, 1.0]])
    np.testing.assert_array_equal(box.iou(empty, empty), np.zeros((2, 2)))
    assert box.iou(tf.zeros([0, 4]), empty).shape == (0, 2)


def test_encode_worked_example():
    # Anchor 20 x 20 at the origin, face 40 x 10 centred at (14, 8): ((14 - 10) / 20 / 0.1, (8 - 10) / 20 / 0.1, ...).
    deltas = box.encode(tf.constant([[-6.0, 3.0, 34.0, 13.0]]), tf.constant([[0.0, 0.0, 20.0, 20.0]]), VARIANCES)
    np.testing.assert_allclose(deltas, [[2.0, -1.0, np.log(2) / 0.2, np.log(0.5) / 0.2]], rtol=1e-5)


def test_decode_inverts_encode():
    rng = np.random.default_rng(0)
    boxes, anchors = _random_boxes(rng, 50), _random_boxes(rng, 50)
    decoded = box.decode(box.encode(boxes, anchors, VARIANCES), anchors, VARIANCES)
    np.testing.assert_allclose(decoded, boxes, atol=1e-3)


def test_cxcywh_round_trip():
    boxes = _random_boxes(np.random.default_rng(1), 20)
    np.testing.assert_allclose(box.to_xyxy(box.to_cxcywh(boxes)), boxes, atol=1e-4)
