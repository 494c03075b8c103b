import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import norms
from tools import average_weights


@pytest.fixture
def image(photos):
    return image_file.read(photos / "solvay1927.jpg")[None, :256, :320]


def test_the_average_of_a_network_and_itself_in_another_form_is_that_network(image):
    public, unfolded = (
        model_lib.RetinaFace.from_preset("mobilenet025_public"),
        model_lib.RetinaFace.from_preset("mobilenet025_public"),
    )
    norms.unfold_norms(unfolded, [image])
    values = average_weights.average([public, unfolded])
    kernel = public.get_layer("stage2_1_pointwise").get_weights()[0]
    np.testing.assert_allclose(values["stage2_1_pointwise/kernel"], kernel, atol=1e-4 * np.abs(kernel).max())


def test_the_average_is_the_mean_and_other_networks_are_refused():
    first, second = (_random(seed) for seed in (0, 1))
    values = average_weights.average([first, second])
    kernels = [model.get_layer("merge_P3").get_weights()[0] for model in (first, second)]
    np.testing.assert_allclose(values["merge_P3/kernel"], np.mean(kernels, axis=0), atol=1e-6)
    narrow = model_lib.RetinaFace(config_lib.Config().replace(pyramid_channels=32))
    with pytest.raises(ValueError, match="networks and anchors to be averaged must be the same"):
        average_weights.average([first, narrow])


def _random(seed):
    keras.utils.set_random_seed(seed)
    return model_lib.RetinaFace()
