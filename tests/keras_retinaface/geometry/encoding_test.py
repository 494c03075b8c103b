import numpy as np
import tensorflow as tf

from keras_retinaface.geometry import box, encoding, landmark, matcher

_ANCHORS = tf.constant([[0, 0, 10, 10], [10, 0, 30, 20], [0, 10, 40, 50]], tf.float32)
_VARIANCES = (0.1, 0.2)


def _spread(state, anchors, faces, boxes, landmarks, visible):
    assigned = matcher.Assignment(
        tf.constant(state), tf.constant(anchors, tf.int32, [len(anchors)]), tf.constant(faces, tf.int32, [len(faces)])
    )
    found = encoding.spread(
        assigned,
        _ANCHORS,
        tf.constant(boxes, tf.float32, [len(boxes), 4]),
        tf.constant(landmarks, tf.float32, [len(boxes), 5, 2]),
        tf.constant(visible, tf.bool, [len(boxes), 5]),
        variances=_VARIANCES,
    )
    return {name: value.numpy() for name, value in found.items()}


def test_faces_come_back_at_their_anchors():
    random = np.random.default_rng(0)
    boxes = np.array([[1, 2, 12, 9], [8, 1, 33, 25], [3, 9, 44, 41]], np.float32)
    landmarks = random.uniform(0, 40, (3, 5, 2)).astype(np.float32)
    visible = np.array([[True] * 5, [False] * 5, [True, False, True, True, False]])
    # Anchor 1 of the first image has face 0; anchors 0 and 2 of the second have faces 2 and 1.
    state = [[0, 1, -1], [1, 0, 1]]
    found = _spread(state, [1, 3, 5], [0, 2, 1], boxes, landmarks, visible)
    np.testing.assert_array_equal(found["state"], state)
    for image, anchor, face in ((0, 1, 0), (1, 0, 2), (1, 2, 1)):
        np.testing.assert_array_equal(found["matched_box"][image, anchor], boxes[face])
        at = _ANCHORS[anchor : anchor + 1]
        decoded = box.decode(found["box_deltas"][image, anchor][None], at, _VARIANCES)
        np.testing.assert_allclose(decoded[0], boxes[face], atol=1e-4)
        np.testing.assert_array_equal(found["landmark_weight"][image, anchor], visible[face].astype(np.float32))
        points = landmark.decode(found["landmark_deltas"][image, anchor][None], at, _VARIANCES[0]).numpy()[0]
        np.testing.assert_allclose(points[visible[face]], landmarks[face][visible[face]], atol=1e-4)
        assert not found["landmark_deltas"][image, anchor][~visible[face]].any()
    for name in ("box_deltas", "landmark_deltas", "landmark_weight", "matched_box"):
        rows = found[name].reshape(6, -1)
        assert not rows[[0, 2, 4]].any(), name


def test_points_that_nobody_sees_may_be_anything():
    points = np.full((1, 5, 2), np.nan)
    found = _spread([[1, 0, 0]], [0], [0], [[0, 0, 9, 9]], points, [[False] * 5])
    assert all(np.isfinite(value).all() for value in found.values()) and not found["landmark_deltas"].any()


def test_no_face_at_all_is_all_zeros():
    found = _spread([[0, -1, 0]], [], [], [], [], [])
    assert found["box_deltas"].shape == (1, 3, 4) and found["landmark_deltas"].shape == (1, 3, 5, 2)
    assert not any(found[name].any() for name in found if name != "state")
