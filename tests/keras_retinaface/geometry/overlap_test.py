import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.geometry import box, overlap


def test_worked_example():
    # 10 x 10 and 20 x 10 share 5 x 10: half of the first, and 50 of 250 together. An empty box shares nothing.
    boxes, others = np.array([[0.0, 0, 10, 10], [3, 3, 3, 9]]), np.array([[5.0, 0, 25, 10], [3, 3, 3, 9]])
    np.testing.assert_allclose(overlap.share(boxes, others), [[0.5, 0], [0, 0]])
    np.testing.assert_allclose(overlap.iou(boxes, others), [[0.2, 0], [0, 0]])
    # With the last pixel 11 x 11 and 21 x 11 share 6 x 11.
    shared, union = overlap.measure(boxes[0], others[0], pixel=1)
    assert (shared, union) == (66, 11 * 11 + 21 * 11 - 66)


def test_negative_widths_have_no_area():
    # As the ground truth of WIDER FACE has one: 1026 474 -2 23.
    odd, face = np.array([[1026.0, 474, 1024, 497]]), np.array([[1000.0, 470, 1030, 500]])
    for pixel in (0, 1):
        np.testing.assert_array_equal(overlap.measure(odd, face, pixel=pixel)[0], [0])
    np.testing.assert_array_equal(overlap.iou(face, odd), [[0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_worlds_agree(dtype):
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 60, (2, 40, 2)), rng.uniform(0, 40, (2, 40, 2))
    boxes, others = np.concatenate([corner, corner + size], axis=-1).astype(dtype)
    pairs = overlap.iou(boxes, others)
    assert pairs.dtype == dtype and 0 < (pairs > 0).mean() < 1
    tensors = [tf.constant(part, tf.float32) for part in (boxes, others)]
    np.testing.assert_allclose(box.iou(*tensors), pairs, atol=2e-6)
    np.testing.assert_allclose(box.paired_iou(*tensors), np.diag(pairs), atol=2e-6)
    shared, _ = overlap.measure(boxes[:, None], others[None])
    np.testing.assert_allclose(box.shared(tensors[0][:, None], tensors[1][None]), shared, rtol=1e-4, atol=1e-4)
