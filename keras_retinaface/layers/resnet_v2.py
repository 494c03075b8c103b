"""ResNet-50 with norms before its convolutions, in the form of MXNet and of the first RetinaFace."""

from __future__ import annotations

import keras

from keras_retinaface.layers import convolution, layer_name

NAME = "resnet50_v2"
_DEPTHS = (3, 4, 6, 3)
_EXPANSION = 4
# Where maps are taken: behind the first convolution of the next stage, which is as fine as the last one's output and a
# quarter as wide.
TAPS = {
    "C2": layer_name.relu_of("C3_0_conv1"),
    "C3": layer_name.relu_of("C4_0_conv1"),
    "C4": layer_name.relu_of("C5_0_conv1"),
    "C5": layer_name.relu_of("post"),
}


def build(x) -> dict:
    """Builds the network.

    Args:
        x: `[B, H, W, 3]`, preprocessed.

    Returns:
        Feature maps by name: C2 `[B, H/4, W/4, 128]`, C3 256 channels, C4 512, C5 2048, sizes rounded up.

    Source: Identity Mappings in Deep Residual Networks (He et al., 2016); maps are taken as by insightface.
    """
    x = convolution.conv_norm(x, 64, 7, stride=2, negative_slope=0.0, name="conv1")
    # Zeros are as good as minus infinity behind a ReLU.
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    features = {}
    for stage, depth in enumerate(_DEPTHS, start=2):
        for index in range(depth):
            stride = 2 if index == 0 and stage > 2 else 1
            x, middle = _unit(x, 64 * 2 ** (stage - 2), f"C{stage}_{index}", is_first=index == 0, stride=stride)
            if index == 0 and stage > 2:
                features[f"C{stage - 1}"] = middle
    features["C5"] = convolution.norm_activation(x, "post", 0.0)
    return features


def _unit(x, channels: int, name: str, *, is_first: bool, stride: int):
    """Returns the output of a unit, and what stands behind its first convolution."""
    before = convolution.norm_activation(x, f"{name}_before", 0.0)
    middle = convolution.conv_norm(before, channels, 1, negative_slope=0.0, name=f"{name}_conv1")
    y = convolution.conv_norm(middle, channels, 3, stride=stride, negative_slope=0.0, name=f"{name}_conv2")
    y = keras.layers.Conv2D(_EXPANSION * channels, 1, use_bias=False, name=f"{name}_conv3")(y)
    if is_first:
        x = keras.layers.Conv2D(_EXPANSION * channels, 1, strides=stride, use_bias=False, name=f"{name}_shortcut")(
            before
        )
    return keras.layers.Add(name=f"{name}_add")([y, x]), middle
