import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import start
from keras_retinaface.weights import arrays


def test_frozen_norms_keep_their_statistics():
    model = model_lib.RetinaFace()
    start.freeze(model, config_lib.Training(use_frozen_norms=True))
    before = model.get_layer("stage1_0_bn").get_weights()
    model(np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)), training=True)
    for old, new in zip(before, model.get_layer("stage1_0_bn").get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.long
def test_initialise_from_every_kind(tmp_path):
    source = model_lib.RetinaFace()
    arrays.save(source, tmp_path / "w.npz")
    source.save(tmp_path / "model.keras")
    source.save_weights(tmp_path / "w.weights.h5")
    for init in ("w.npz", "model.keras", "w.weights.h5", ""):
        model = model_lib.RetinaFace()
        start.initialise(model, str(tmp_path / init))  # the folder itself is a workdir
        np.testing.assert_array_equal(
            model.get_layer("merge_P3").get_weights()[0], source.get_layer("merge_P3").get_weights()[0]
        )
    with pytest.raises(ValueError, match="no such file"):
        start.initialise(model_lib.RetinaFace(), str(tmp_path / "missing.weights.h5"))
    with pytest.raises(ValueError, match="`model` must be .* Received: 'resnet'"):
        start.initialise(model_lib.RetinaFace(), "resnet")


def test_weights_of_another_network_of_equal_shapes_are_refused(tmp_path):
    model_lib.RetinaFace(config_lib.Config().replace(negative_slope=0.1)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="needs negative_slope=0.1. Received: negative_slope=0.0"):
        start.initialise(model_lib.RetinaFace(config_lib.Config().replace(negative_slope=0.0)), str(tmp_path))
