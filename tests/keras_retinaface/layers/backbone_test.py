import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.layers import backbone

# Channels of C2 to C5 as published, of one network a builder; the others are these with other widths and depths.
_CHANNELS = {
    "mobilenet025": (32, 64, 128, 256),
    "mobilenet_v2_1280": (24, 32, 96, 1280),
    "resnet18": (64, 128, 256, 512),
    "resnet50_v2": (128, 256, 512, 2048),
}


@pytest.fixture(scope="module", params=sorted(_CHANNELS))
def built(request):
    image = keras.Input((None, None, 3))
    return request.param, keras.Model(image, backbone.build(request.param, image, negative_slope=0.1))


def test_maps_have_strides_4_to_32_and_sizes_rounded_up(built):
    name, model = built
    maps = model(np.zeros((1, 33, 70, 3), np.float32))
    strides = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
    assert {level: tuple(x.shape) for level, x in maps.items()} == {
        level: (1, -(-33 // stride), -(-70 // stride), channels)
        for (level, stride), channels in zip(strides.items(), _CHANNELS[name])
    }


def test_taps_are_the_layers_that_give_the_maps(built):
    name, model = built
    taps = backbone.taps(name)
    assert list(taps) == ["C1", "C2", "C3", "C4", "C5"]
    for level in ("C2", "C3", "C4", "C5"):
        assert model.get_layer(taps[level]).output is model.output[level]
    assert isinstance(model.get_layer(backbone.stem(name)), keras.layers.Conv2D)


def test_a_backbone_is_one_tensor_wide_at_the_ends_of_its_blocks(built):
    name, model = built
    if name == "resnet50_v2":
        with pytest.raises(ValueError, match="`use_recompute` cannot cut resnet50_v2"):
            backbone.block_outputs(name)
        return
    cuts, start = backbone.block_outputs(name), model.input
    for cut in cuts:  # Keras refuses a piece that depends on anything else
        keras.Model(start, model.get_layer(cut).output)
        start = model.get_layer(cut).output
    assert set(backbone.taps(name).values()) <= set(cuts) and start is model.output["C5"]


def test_every_backbone_of_the_config_is_known():
    for name in config_lib.BACKBONES:
        for layout in config_lib.LAYOUTS:
            assert len(backbone.mean(name, layout)) == 3
        assert list(backbone.taps(name)) == ["C1", "C2", "C3", "C4", "C5"]
    with pytest.raises(ValueError, match="`backbone` is not known. Received: backbone='vgg'"):
        backbone.build("vgg", keras.Input((None, None, 3)), negative_slope=0.0)
