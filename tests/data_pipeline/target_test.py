import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import target
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, landmark, matcher

ANCHORS = config_lib.Anchors(strides=(16,), sizes=((16.0,),))


def _sample(faces, most):
    """Pads lists of (box, landmarks, visible, is_ignored) as `padded_batch` does."""
    shapes = ((4,), (5, 2), (5,), ())
    keys = ("boxes", "landmarks", "landmark_visible", "is_ignored")
    types = (np.float32, np.float32, bool, bool)
    sample = {key: np.zeros((len(faces), most, *shape), kind) for key, shape, kind in zip(keys, shapes, types)}
    for image, rows in enumerate(faces):
        for row, values in enumerate(rows):
            for key, value in zip(keys, values):
                sample[key][image, row] = value
    sample["num_faces"] = np.array([len(rows) for rows in faces], np.int32)
    return {key: tf.constant(value) for key, value in sample.items()}


def test_worked_example():
    points = np.array([[6, 6], [12, 6], [10, 8], [7, 12], [11, 12]], np.float32)
    visible = np.array([True, True, False, True, True])
    targets = target.encode(_sample([[([4, 0, 20, 16], points, visible, False)], []], 1), (32, 32), ANCHORS)
    np.testing.assert_array_equal(targets["state"], [[1, 0, 0, 0], [0, 0, 0, 0]])
    # Centre (12, 8) from an anchor of 16 at (8, 8): 4 / 16 / 0.1; same size.
    np.testing.assert_allclose(targets["box_deltas"][0, 0], [2.5, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(targets["landmark_deltas"][0, 0, 1], [2.5, -1.25])
    np.testing.assert_array_equal(targets["landmark_weight"][0, 0], [1, 1, 0, 1, 1])
    # The third point is missing: no target, whatever stands there.
    np.testing.assert_array_equal(targets["landmark_deltas"][0, 0, 2], [0, 0])
    np.testing.assert_array_equal(targets["matched_box"][0, 0], [4, 0, 20, 16])
    for key in ("box_deltas", "landmark_deltas", "landmark_weight", "matched_box"):
        assert not targets[key].numpy()[0, 1:].any() and not targets[key].numpy()[1].any()


def test_missing_landmarks_may_be_anything():
    points = np.full((5, 2), np.nan)
    targets = target.encode(_sample([[([4, 0, 20, 16], points, False, False)]], 1), (32, 32), ANCHORS)
    assert all(np.isfinite(value.numpy()).all() for value in targets.values())


@pytest.mark.parametrize("preset", ["mobilenet025", "paper_resnet50"])
def test_decoding_gives_the_faces_back_in_the_graph_too(preset):
    design = config_lib.Config.preset(preset).anchors
    rng = np.random.default_rng(0)
    faces = []
    for num in (0, 7, 30):
        corner = rng.uniform(0, 500, (num, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 120, (num, 2))], axis=1)
        points = corner[:, None] + rng.uniform(0, 100, (num, 5, 2))
        faces.append(list(zip(boxes, points, rng.random((num, 5)) < 0.7, rng.random(num) < 0.2)))
    sample = _sample(faces, 30)
    targets = target.encode(sample, (640, 640), design)
    graph = tf.function(lambda sample: target.encode(sample, (640, 640), design))(sample)
    for key, value in targets.items():
        np.testing.assert_allclose(graph[key], value, atol=1e-5, err_msg=key)
    assert (targets["state"][0].numpy() == matcher.NEGATIVE).all()
    anchors = anchor.generate((640, 640), design.strides, design.sizes)
    is_positive = targets["state"].numpy() == matcher.POSITIVE
    decoded = box.decode(targets["box_deltas"], anchors, design.variances).numpy()
    np.testing.assert_allclose(decoded[is_positive], targets["matched_box"].numpy()[is_positive], atol=1e-2)
    # Every face that is not ignored owns an anchor, unless a better match for that anchor took it.
    owned = {tuple(row) for row in targets["matched_box"].numpy()[is_positive]}
    usable = [tuple(np.float32(values[0])) for rows in faces for values in rows if not values[3]]
    assert owned <= set(usable) and len(owned) >= len(usable) - 1
    points = landmark.decode(targets["landmark_deltas"], anchors, design.variances[0]).numpy()
    by_box = {tuple(np.float32(values[0])): values for rows in faces for values in rows}
    for matched, found, weight in zip(
        targets["matched_box"].numpy()[is_positive],
        points[is_positive],
        targets["landmark_weight"].numpy()[is_positive],
    ):
        _, expected, visible, _ = by_box[tuple(matched)]
        np.testing.assert_array_equal(weight, visible)
        np.testing.assert_allclose(found[visible], expected[visible], atol=1e-2)
