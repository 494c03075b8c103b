import keras
import pytest

from keras_retinaface.layers import resnet


def _layers(name, layout="torchvision"):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, resnet.build(name, image, layout=layout))
    return {layer.name: layer for layer in model.layers}


def test_blocks_are_those_of_the_paper():
    assert resnet.block_names("resnet18") == ["C2_0", "C2_1", "C3_0", "C3_1", "C4_0", "C4_1", "C5_0", "C5_1"]
    # 18 = 2 * 8 + 2 layers, 50 = 3 * 16 + 2, 152 = 3 * 50 + 2.
    layers = {"resnet18": 2, "resnet34": 2, "resnet50": 3, "resnet152": 3}
    assert {name: n * len(resnet.block_names(name)) + 2 for name, n in layers.items()} == {
        name: int(name[6:]) for name in layers
    }


@pytest.mark.parametrize(
    ("layout", "strided", "epsilon"), [("torchvision", "conv2", 1e-5), ("keras", "conv1", 1.001e-5)]
)
def test_layouts_stride_in_another_convolution_of_a_block(layout, strided, epsilon):
    layers = _layers("resnet50", layout)
    for block in ("C3_0", "C4_0", "C5_0"):
        strides = {part: layers[f"{block}_{part}"].strides for part in ("conv1", "conv2", "conv3", "shortcut")}
        expected = {"conv1": (1, 1), "conv2": (1, 1), "conv3": (1, 1), strided: (2, 2), "shortcut": (2, 2)}
        assert strides == expected
    assert layers["C2_0_shortcut"].strides == (1, 1)  # the pool before it strides
    assert layers["C3_0_conv1_bn"].epsilon == epsilon


def test_blocks_of_two_have_a_shortcut_only_where_they_stride():
    layers = _layers("resnet18")
    assert {name for name in layers if name.endswith("_shortcut")} == {f"C{stage}_0_shortcut" for stage in (3, 4, 5)}
    assert not any(name.endswith("conv3") for name in layers)
