import functools

import keras
import pytest

from keras_retinaface.layers import mobilenet_v2


@functools.cache
def _layers(layout="torchvision"):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, mobilenet_v2.build(image, layout=layout, has_last=layout == "keras"))
    return {layer.name: layer for layer in model.layers}


def test_blocks_expand_six_times_and_add_where_nothing_changes():
    layers = _layers()
    assert "mobile_1_expand" not in layers  # its expansion is 1
    channels = {index: layers[f"mobile_{index}_project"].filters for index in range(1, 18)}
    assert list(channels.values()) == [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
    for index in range(2, 18):
        assert layers[f"mobile_{index}_expand"].filters == 6 * channels[index - 1]
        is_added = isinstance(layers[f"mobile_{index}_output"], keras.layers.Add)
        assert is_added == (channels[index] == channels[index - 1])
    assert [i for i in range(1, 18) if layers[f"mobile_{i}_depthwise"].strides == (2, 2)] == [2, 4, 7, 14]


@pytest.mark.parametrize(("layout", "has_padding", "epsilon"), [("torchvision", True, 1e-5), ("keras", False, 1e-3)])
def test_layouts_pad_otherwise(layout, has_padding, epsilon):
    layers = _layers(layout)
    assert any(isinstance(layer, keras.layers.ZeroPadding2D) for layer in layers.values()) == has_padding
    assert layers["mobile_4_depthwise"].padding == ("valid" if has_padding else "same")
    assert layers["mobile_4_depthwise_bn"].epsilon == epsilon


def test_the_last_convolution_is_there_on_request():
    assert mobilenet_v2.LAST not in _layers() and _layers("keras")[mobilenet_v2.LAST].filters == 1280
    assert mobilenet_v2.block_names() == [f"mobile_{index}" for index in range(1, 18)]
