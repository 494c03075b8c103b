import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor
from keras_retinaface.network import model as model_lib
from keras_retinaface.network import objective
from tests import batches


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return model_lib.RetinaFace()


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 1), (95, 33)])
def test_outputs_agree_with_the_anchors_of_any_size(model, size):
    outputs = model(batches.images(1, *size), training=False)
    anchors = anchor.generate(size, model.config.anchors.strides, model.config.anchors.sizes)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "scores": (1, len(anchors), 2),
        "box_deltas": (1, len(anchors), 4),
        "landmark_deltas": (1, len(anchors), 5, 2),
    }


def test_a_batch_gives_what_its_images_give(model):
    images = batches.images(8, 64, 64)
    together = model(images, training=False)
    for index in range(8):
        alone = model(images[index : index + 1], training=False)
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][index : index + 1], value, atol=1e-5)


def test_uint8_equals_float(model):
    images = batches.images(1, 64, 64).astype(np.uint8)
    np.testing.assert_allclose(model(images)["scores"], model(images.astype(np.float32))["scores"], atol=1e-6)


def test_keras_file_round_trip(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, model_lib.RetinaFace) and loaded.config == model.config
    images = batches.images(1, 40, 50)
    for name, value in model(images).items():
        np.testing.assert_array_equal(loaded(images)[name], value)


def _assert_a_batch_without_faces_is_finite(model, images):
    """Takes the first step of a model, whose tracing the steps with faces need too."""
    before = model.get_layer("box_P3").get_weights()
    targets = batches.targets(model.config, images, 0)
    history = model.fit(tf.data.Dataset.from_tensors((images, targets)), verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"][0]) and history["box_loss"] == [0.0] and history["landmark_loss"] == [0.0]
    for old, new in zip(before, model.get_layer("box_P3").get_weights()):
        np.testing.assert_array_equal(old, new)


def test_fit_reports_every_loss_and_learns(monkeypatch):
    keras.utils.set_random_seed(1)
    model = model_lib.RetinaFace()
    traced, loss = [], model.objective.loss
    monkeypatch.setattr(model.objective, "loss", lambda *given, **more: traced.append(None) or loss(*given, **more))
    images = batches.images(2, 64, 64)
    dataset = tf.data.Dataset.from_tensors((images, batches.targets(model.config, images, 4))).repeat()
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9))
    _assert_a_batch_without_faces_is_finite(model, images)
    history = model.fit(dataset, epochs=6, steps_per_epoch=3, verbose=0, shuffle=False).history
    assert len(traced) == 1, "what a first trace would have to make is there before"
    assert set(history) == set(objective.METRICS)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    weights = model.config.loss
    weighted = (
        weights.class_weight * history["class_loss"][0]
        + weights.box_weight * history["box_loss"][0]
        + weights.landmark_weight * history["landmark_loss"][0]
    )
    # The class mean is over steps weighted by their anchors, which are equal here.
    np.testing.assert_allclose(history["loss"][0], weighted, rtol=1e-4)


def test_shared_heads_are_one_convolution():
    network = config_lib.Network(use_shared_heads=True)
    model = model_lib.RetinaFace(config_lib.Config(network=network))
    assert [layer.name for layer in model.layers if layer.name.startswith("class_") and layer.weights] == ["class_head"]


def test_sample_weight_is_refused(model):
    with pytest.raises(ValueError, match="`sample_weight` is not supported"):
        model.compute_loss(y={}, y_pred={}, sample_weight=1.0)


def test_the_optimizer_has_the_same_variables_after_another_start():
    model = model_lib.RetinaFace(config_lib.Config().replace(pyramid_channels=4))
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model.compile(optimizer=keras.optimizers.SGD(0.01))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    counts = []
    for _ in range(2):
        model.make_train_function(force=True)
        counts.append(len(variables() if callable(variables := model.optimizer.variables) else variables))
    assert counts[0] == counts[1] > 0
