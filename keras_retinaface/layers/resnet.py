"""ResNet-18 to ResNet-152 without their classifiers, in the two forms that public weights come in."""

from __future__ import annotations

import keras

from keras_retinaface.layers import convolution, layer_name

# Blocks of the stages C2 to C5.
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet152": (3, 8, 36, 3)}
# Of two 3x3 convolutions a block; the others have blocks of three.
_BASIC = ("resnet18", "resnet34")

# A block of three has an output of four times the channels of its middle.
_EXPANSION = 4


def block_names(name: str) -> list[str]:
    """Returns the blocks of a network in order; the last layer of each is `BLOCK_relu`."""
    return [f"C{stage}_{index}" for stage, depth in enumerate(DEPTHS[name], start=2) for index in range(depth)]


def build(name: str, x, *, layout: str) -> dict:
    """Builds a ResNet.

    Args:
        name: a key of `DEPTHS`.
        x: `[B, H, W, 3]`, preprocessed.
        layout: "torchvision" strides in the 3x3 convolution of a block, "keras" (`keras.applications`, as in the
            paper of 2015) in the 1x1 before it, and its norms have another epsilon. Shapes are the same, so weights
            of one would load into the other and be wrong. Blocks of two have one form.

    Returns:
        Feature maps by name: C2 `[B, H/4, W/4, 256]`, C3 512 channels, C4 1024, C5 2048, sizes rounded up; of
        ResNet-18 and 34 a quarter of these channels.

    Source: Deep Residual Learning (He et al., 2015).
    """
    epsilon = 1e-5 if layout == "torchvision" else 1.001e-5
    x = convolution.conv_norm(x, 64, 7, stride=2, negative_slope=0.0, epsilon=epsilon, name="conv1")
    # Zeros are as good as minus infinity behind a ReLU.
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    features = {}
    for block in block_names(name):
        stage, index = int(block[1]), int(block.split("_")[1])
        channels, stride = 64 * 2 ** (stage - 2), 1 + (index == 0 and stage > 2)
        if name in _BASIC:
            x = _basic_block(x, channels, block, epsilon, stride=stride)
        else:
            x = _block(x, channels, block, layout, epsilon, is_first=index == 0, stride=stride)
        features[f"C{stage}"] = x
    return features


def _block(x, channels: int, name: str, layout: str, epsilon: float, *, is_first: bool, stride: int):
    strides = (1, stride) if layout == "torchvision" else (stride, 1)
    shortcut = x
    if is_first:
        shortcut = convolution.conv_norm(
            x, _EXPANSION * channels, 1, stride=stride, negative_slope=None, epsilon=epsilon, name=f"{name}_shortcut"
        )
    x = convolution.conv_norm(
        x, channels, 1, stride=strides[0], negative_slope=0.0, epsilon=epsilon, name=f"{name}_conv1"
    )
    x = convolution.conv_norm(
        x, channels, 3, stride=strides[1], negative_slope=0.0, epsilon=epsilon, name=f"{name}_conv2"
    )
    x = convolution.conv_norm(x, _EXPANSION * channels, 1, negative_slope=None, epsilon=epsilon, name=f"{name}_conv3")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=layer_name.relu_of(name))(x)


def _basic_block(x, channels: int, name: str, epsilon: float, *, stride: int):
    shortcut = x
    if stride > 1:
        shortcut = convolution.conv_norm(
            x, channels, 1, stride=stride, negative_slope=None, epsilon=epsilon, name=f"{name}_shortcut"
        )
    x = convolution.conv_norm(x, channels, 3, stride=stride, negative_slope=0.0, epsilon=epsilon, name=f"{name}_conv1")
    x = convolution.conv_norm(x, channels, 3, negative_slope=None, epsilon=epsilon, name=f"{name}_conv2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=layer_name.relu_of(name))(x)
