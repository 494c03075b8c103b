import keras
import numpy as np
import pytest

from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import norms


@pytest.fixture
def batches(photos):
    image = image_file.read(photos / "solvay1927.jpg")
    return [image[None, :320, x : x + 320] for x in (0, 320, 640)]


def test_outputs_stay_and_norms_hold_what_they_see(batches):
    model = model_lib.RetinaFace.from_preset("mobilenet025_public")
    before = model(batches[0], training=False)
    norms.unfold_norms(model, batches)
    for name, value in model(batches[0], training=False).items():
        np.testing.assert_allclose(value, before[name], atol=2e-4)
    # The first norm: mean and variance of its input over the batches themselves.
    norm = model.get_layer("stage1_0_bn")
    seen = np.concatenate([keras.Model(model.input, norm.input)(batch) for batch in batches])
    _, _, mean, variance = norm.get_weights()
    np.testing.assert_allclose(mean, seen.mean((0, 1, 2)), atol=1e-3 * np.abs(seen).max())
    np.testing.assert_allclose(variance, seen.var((0, 1, 2)), rtol=1e-3, atol=1e-3)


def test_every_filter_has_the_same_length(batches):
    model = model_lib.RetinaFace.from_preset("mobilenet025_public")
    norms.unfold_norms(model, batches)
    kernel = model.get_layer("stage1_0").get_weights()[0]
    depthwise = model.get_layer("stage2_1_depthwise").get_weights()[0]
    np.testing.assert_allclose(np.sqrt((kernel**2).sum((0, 1, 2))), np.sqrt(2), rtol=1e-4)
    np.testing.assert_allclose(np.sqrt((depthwise**2).sum((0, 1, 3))), np.sqrt(2), rtol=1e-4)


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="`batches` must hold at least one batch"):
        norms.unfold_norms(model_lib.RetinaFace.from_preset("mobilenet025_public"), [])


def test_outputs_stay_when_trained_norms_are_folded(batches):
    model = model_lib.RetinaFace.from_preset("mobilenet025_public")
    norms.unfold_norms(model, batches)
    before = model(batches[0], training=False)
    norm = model.get_layer("context_P3_3x3_bn")
    assert not np.allclose(norm.get_weights()[0], 1)
    norms.fold_norms(model)
    for name, value in model(batches[0], training=False).items():
        np.testing.assert_allclose(value, before[name], atol=1e-3)
    gamma, _, mean, variance = norm.get_weights()
    assert np.all(gamma == 1) and not mean.any()
    np.testing.assert_allclose(variance + norm.epsilon, 1, rtol=1e-6)
