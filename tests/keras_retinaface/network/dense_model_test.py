"""The dense head in the whole model; the other outputs are tested beside `model.py`."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import dataset, synthetic
from keras_retinaface import config as config_lib
from keras_retinaface.mesh import face_model
from keras_retinaface.network import decoding, objective
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import start
from tests import conftest

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


def _model():
    keras.utils.set_random_seed(0)
    model = model_lib.RetinaFace(CONFIG)
    start.initialise(model, "mobilenet025_public")
    return model


@pytest.fixture(scope="module")
def model():
    """For tests that neither train nor compile it."""
    return _model()


@pytest.fixture(scope="module")
def plain():
    return model_lib.RetinaFace.from_preset("mobilenet025_public")


def test_public_weights_leave_the_dense_head_at_zero(model, plain, batch):
    outputs, expected = (network(tf.cast(batch[0], tf.float32)) for network in (model, plain))
    assert not outputs["mesh_code"].numpy().any()
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-4)


def test_dense_loss_is_weighted_warmed_up_and_reported(batch):
    images, targets = batch
    model = _model()
    outputs = model(tf.cast(images, tf.float32))
    base = float(objective.Objective(CONFIG.loss, CONFIG.anchors).loss(images, targets, outputs))
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
        total, error, count = model.objective.photometric(images, nothing, {**outputs, "mesh_code": code + 0})
    assert [float(value) for value in (total, error, count)] == [0, 0, 0]
    # Zero, and not missing as where the loss has none.
    np.testing.assert_array_equal(tf.convert_to_tensor(tape.gradient(total, code)), tf.zeros_like(code))


def test_the_gradient_of_the_loss_reaches_the_dense_head(model, batch):
    images, targets = batch
    outputs = model(tf.cast(images, tf.float32))

    def loss_at(code):
        return model.compute_loss(images, targets, {**outputs, "mesh_code": code}, training=False)

    code = tf.zeros_like(outputs["mesh_code"])
    with tf.GradientTape() as tape:
        tape.watch(code)
        loss = loss_at(code)
    slope = tf.convert_to_tensor(tape.gradient(loss, code)).numpy()
    size = targets["matched_box"][..., 2:] - targets["matched_box"][..., :2]
    is_large = (targets["state"] == 1) & (np.min(size, -1) >= CONFIG.loss.dense_min_face)
    assert 0 < np.sum(is_large) <= CONFIG.loss.dense_max_faces, "of more, some are drawn by lot"
    # Shape and colours, camera, light; the priors have no slope at zero, so all of it is the picture's.
    for part in (slice(0, 128), slice(128, 135), slice(135, 144)):
        np.testing.assert_array_equal(slope[..., part].any(-1), is_large)
    # The light moves no outline, so the loss is smooth in it.
    step = 0.05 * (np.arange(144) >= 141).astype(np.float32)
    difference = float(loss_at(code + step) - loss_at(code - step)) / 2
    assert difference != 0 and np.sum(slope * step) == pytest.approx(difference, rel=0.05)


@pytest.mark.long
def test_frozen_detector_learns_faces_and_nothing_else(batch):
    model = _model()
    start.freeze_detector(model)
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
    names = {layer.name for layer in model.without_dense_head().layers}
    assert not any(name.startswith("dense_") or name == "mesh_code" for name in names)
    assert not any("dense" in weight.name or "mesh" in weight.name for weight in model.without_dense_head().weights)
    serve = decoding.make_function(model, config_lib.Detection(), None).get_concrete_function()
    assert not any("dense_" in variable.name for variable in serve.variables)
    # The decoder is nobody's weight: neither saved nor counted.
    model.objective.prepare()
    shapes = {weight.shape for weight in model.weights}
    assert model.objective._photometric.decoder.dense.kernel.shape not in shapes
    num_weights = sum(layer.count_params() for layer in model.layers if not layer.name.startswith("dense_"))
    assert model.without_dense_head().count_params() == num_weights


def test_a_detector_with_a_dense_head_serves_the_graph_of_one_without():
    graphs = []
    for name in ("mobilenet025_public", "mobilenet025_dense"):
        model = model_lib.RetinaFace.from_preset(name)
        serve = decoding.make_function(model, config_lib.Detection(), 1).get_concrete_function()
        graphs.append((sorted(node.op for node in serve.graph.as_graph_def().node), len(serve.variables)))
    assert graphs[0] == graphs[1]


def test_the_shipped_dense_head_stands_on_the_shipped_detector(plain, batch):
    dense = model_lib.RetinaFace.from_preset("mobilenet025_dense")
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


_WITHOUT_GRAPHICS = """
import pathlib, sys
sys.modules["tensorflow_graphics"] = None
import numpy as np
from keras_retinaface import Detector, RetinaFace, config, image_file
from keras_retinaface.export import tflite
from keras_retinaface.mesh import reconstruction
model = RetinaFace.from_preset("mobilenet025_dense")
photo = image_file.read("examples/photos/tfjs_three_people.jpg")
faces = Detector(model, image_size=480, mesh=True).detect(photo)
print(len(faces), len(faces[0].mesh.vertices))
tflite.write(model, pathlib.Path(sys.argv[1]) / "a.tflite", config.Detection(), image_size=(64, 64))

def fit():
    model.compile(optimizer="sgd")
    model.fit(np.zeros((1, 32, 32, 3)), {"state": np.zeros((1, 42), int)}, verbose=0)

def measure():
    from keras_retinaface.evaluation import mesh_fit

for call in (fit, measure, lambda: reconstruction.render(faces[0].mesh)):
    try:
        call()
    except ValueError as error:
        print(error)
"""


@pytest.mark.long
def test_only_training_and_drawing_need_tensorflow_graphics(tmp_path):
    command = [sys.executable, "-c", _WITHOUT_GRAPHICS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[0] == f"3 {face_model.load().num_vertices}" and (tmp_path / "a.tflite").is_file()
    needed = "needs tensorflow-graphics: pip install --no-deps tensorflow-graphics==2021.12.3. Received: "
    purposes = ("the dense loss", "measuring meshes", "drawing meshes")
    assert [line[: line.index("Received: ") + 10] for line in lines[1:]] == [f"{what} {needed}" for what in purposes]


def test_freezing_without_a_dense_head():
    with pytest.raises(ValueError, match="`use_frozen_detector` needs a dense head: set `dense`"):
        start.freeze_detector(model_lib.RetinaFace(CONFIG.replace(dense=False)))
