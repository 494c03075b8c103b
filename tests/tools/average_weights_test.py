import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays, norms, shipped
from tools import average_weights, network_source


@pytest.fixture(scope="module")
def public():
    return arrays.read_npz(shipped.ASSETS / "mobilenet025_public.npz")


def test_shares_weigh_networks_with_norms_folded(tmp_path, public):
    kernel, norm = "stage1_0/kernel", "stage1_0_bn/"
    trained = {
        **public,
        f"{norm}gamma": 2 * np.ones(8, np.float32),
        f"{norm}moving_mean": np.full(8, 3, np.float32),
        f"{norm}moving_variance": np.full(8, 16 - 1e-5, np.float32),
    }
    arrays.write_npz(tmp_path / "trained.npz", trained)
    models = [
        network_source.load(str(tmp_path / "trained.npz"), "mobilenet025"),
        network_source.load("mobilenet025_public", "mobilenet025"),
    ]
    mean = average_weights.average(models, [3, 1])
    # The norm halves its input, 2 / sqrt(16), so a kernel counts (3 / 2 + 1) / 4, and takes off 3 * 3 / 2 / 4.
    np.testing.assert_allclose(mean[kernel], public[kernel] * 0.625, rtol=1e-6)
    np.testing.assert_allclose(mean[f"{norm}beta"], public[f"{norm}beta"] - 1.125, atol=1e-5)
    np.testing.assert_array_equal(mean[f"{norm}gamma"], np.ones(8))
    np.testing.assert_allclose(mean["box_P3/kernel"], public["box_P3/kernel"], rtol=1e-6)
    # Without shares all count alike.
    np.testing.assert_allclose(average_weights.average(models)[kernel], public[kernel] * 0.75, rtol=1e-6)


@pytest.mark.parametrize("shares", [[1], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_shares_are_a_positive_number_for_each(shares):
    with pytest.raises(ValueError, match="`shares` must be 2 positive numbers, one a network. Received: "):
        average_weights.average([None, None], shares)


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
