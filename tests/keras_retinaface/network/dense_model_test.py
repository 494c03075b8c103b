"""The dense head in the whole model; the other outputs are tested beside `model.py`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import dataset, synthetic
from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
from keras_retinaface.network import serving
from keras_retinaface.training import run

CONFIG = config_lib.Config().replace(
    dense=True,
    image_size=(192, 192),
    batch_size=2,
    crop_scale=(0.5, 1.0),
    dense_max_faces=64,
    dense_crop=24,
    dense_warmup=4,
)


@pytest.fixture(scope="module")
def batch():
    return next(iter(dataset.make_dataset(CONFIG, None, synthetic.Source(20, seed=5), seed=2)))


@pytest.fixture()
def model():
    keras.utils.set_random_seed(0)
    model = model_lib.RetinaFace(CONFIG)
    run.initialise(model, "mobilenet025_public")
    return model


def test_public_weights_leave_the_dense_head_at_zero(model, batch):
    outputs = model(tf.cast(batch[0], tf.float32))
    plain = model_lib.RetinaFace.from_preset("mobilenet025_public")(tf.cast(batch[0], tf.float32))
    assert not outputs["mesh_code"].numpy().any()
    for name in plain:
        np.testing.assert_allclose(outputs[name], plain[name], atol=1e-4)


def test_dense_loss_is_weighted_warmed_up_and_reported(model, batch):
    images, targets = batch
    outputs = model(tf.cast(images, tf.float32))
    plain = model_lib.RetinaFace(CONFIG.replace(dense=False))
    base = float(plain.compute_loss(images, targets, outputs))
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    first = float(model.compute_loss(images, targets, outputs)) - base
    dense = float(model.compute_metrics(None, None, None)["dense_loss"])
    assert 0.02 < dense < 1.0
    # Step 1 of 4 has a quarter of the weight 0.01; evaluation has all of it.
    assert first == pytest.approx(0.01 * dense / 4, rel=0.05)
    assert float(model.compute_loss(images, targets, outputs, training=False)) - base == pytest.approx(
        0.01 * dense, rel=0.05
    )
    assert 0 < float(model.compute_metrics(None, None, None)["dense_error"]) < 0.6


def test_no_large_face_no_loss(model, batch):
    images, targets = batch
    outputs = {**model(tf.cast(images, tf.float32))}
    nothing = {**targets, "state": tf.zeros_like(targets["state"]) - 1}
    with tf.GradientTape() as tape:
        code = tf.Variable(outputs["mesh_code"])
        total, error, count = model._photometric(images, nothing, {**outputs, "mesh_code": code + 0})
    assert [float(value) for value in (total, error, count)] == [0, 0, 0]
    slope = tape.gradient(total, code)
    assert slope is None or not tf.reduce_any(tf.convert_to_tensor(slope) != 0)


@pytest.mark.slow
def test_frozen_detector_learns_faces_and_nothing_else(model, batch):
    run.freeze_detector(model)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    images, targets = batch
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    data = tf.data.Dataset.from_tensors((images, targets)).repeat()
    history = model.fit(data, steps_per_epoch=12, epochs=3, shuffle=False, verbose=0).history
    assert history["dense_loss"][-1] < 0.9 * history["dense_loss"][0]
    changed = {
        layer.name
        for layer in model.layers
        if not all(np.array_equal(a, b) for a, b in zip(before[layer.name], layer.get_weights()))
    }
    # The finest level has no anchor for faces as large as these losses want.
    assert changed and changed <= {"dense_P4", "dense_P5"}


def test_detector_and_exports_hold_nothing_of_it(model, batch):
    names = {layer.name for layer in model.detector().layers}
    assert not any(name.startswith("dense_") or name == "mesh_code" for name in names)
    assert not any("dense" in weight.name or "mesh" in weight.name for weight in model.detector().weights)
    serve = serving.make(model, config_lib.Detection(), None).get_concrete_function()
    assert not any("dense_" in variable.name for variable in serve.variables)
    # The decoder is nobody's weight: neither saved nor counted.
    shapes = {weight.shape for layer in model.layers for weight in layer.weights}
    assert model._photometric.decoder.dense.kernel.shape not in shapes
    num_weights = sum(layer.count_params() for layer in model.layers if not layer.name.startswith("dense_"))
    assert model.detector().count_params() == num_weights


def test_a_detector_with_a_dense_head_serves_the_graph_of_one_without():
    graphs = []
    for name in ("mobilenet025_public", "mobilenet025_dense"):
        serve = serving.make(model_lib.RetinaFace.from_preset(name), config_lib.Detection(), 1).get_concrete_function()
        graphs.append((sorted(node.op for node in serve.graph.as_graph_def().node), len(serve.variables)))
    assert graphs[0] == graphs[1]


def test_the_shipped_dense_head_stands_on_the_shipped_detector(batch):
    plain, dense = (model_lib.RetinaFace.from_preset(f"mobilenet025_{name}") for name in ("public", "dense"))
    found, expected = (model(tf.cast(batch[0], tf.float32)) for model in (dense, plain))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert np.abs(found["mesh_code"]).max() > 0.1


def test_save_and_load(model, batch, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert again.config.to_model_dict() == CONFIG.to_model_dict()
    images = tf.cast(batch[0], tf.float32)
    np.testing.assert_array_equal(again(images)["scores"], model(images)["scores"])


def test_freezing_without_a_dense_head():
    with pytest.raises(ValueError, match="`use_frozen_detector` needs a dense head: set `dense`"):
        run.freeze_detector(model_lib.RetinaFace(CONFIG.replace(dense=False)))
