import keras

from keras_retinaface.layers import resnet_v2


def test_norms_stand_before_convolutions_and_maps_are_taken_within_units():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, resnet_v2.build(image))
    layers = {layer.name: layer for layer in model.layers}
    for name in ("C2_0", "C3_0", "C5_2"):
        before = layers[f"{name}_before_relu"]
        assert layers[f"{name}_conv1"].input is before.output
        # Nothing follows the last convolution of a unit but the sum.
        assert f"{name}_conv3_bn" not in layers and f"{name}_conv3_relu" not in layers
    assert layers["C2_0_shortcut"].input is layers["C2_0_before_relu"].output
    assert "C2_1_shortcut" not in layers
    assert [layers[f"C{stage}_0_conv2"].strides for stage in (2, 3, 4, 5)] == [(1, 1), (2, 2), (2, 2), (2, 2)]
    for level, tap in resnet_v2.TAPS.items():
        assert model.output[level] is layers[tap].output
