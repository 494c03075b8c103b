"""MobileNetV2 at width 1 without its classifier, in the two forms that public weights come in."""

from __future__ import annotations

import keras

from keras_retinaface.layers import convolution, layer_name

# (expansion, channels, blocks, stride of the first) of each group.
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_TAPS = {3: "C2", 6: "C3", 13: "C4"}
NUM_BLOCKS = 17
LAST, _LAST_CHANNELS = "mobile_18", 1280


def block_names(num_blocks: int = NUM_BLOCKS) -> list[str]:
    """Returns the blocks in order; the last layer of each is `BLOCK_output`."""
    return [f"mobile_{index}" for index in range(1, num_blocks + 1)]


def build(x, *, layout: str, num_blocks: int = NUM_BLOCKS, has_last: bool = False) -> dict:
    """Builds MobileNetV2.

    Args:
        x: `[B, H, W, 3]`, preprocessed.
        layout: "torchvision" pads both ends where it strides, "keras" (`keras.applications`) pads an even side at its
            end only, and its norms have another epsilon.
        num_blocks: blocks that it ends with.
        has_last: whether its last convolution, which classifiers stand on, is part of it.

    Returns:
        Feature maps by name: C2 `[B, H/4, W/4, 24]`, C3 32 channels, C4 96, C5 320 (160 of 16 blocks, 1280 with the
        last convolution), sizes rounded up.

    Source: MobileNetV2 (Sandler et al., 2018).
    """
    kwargs = {"negative_slope": None}
    kwargs.update({"epsilon": 1e-5} if layout == "torchvision" else {"epsilon": 1e-3, "padding": "same"})
    x = _relu6(convolution.conv_norm(x, 32, 3, stride=2, name="mobile_0", **kwargs), "mobile_0")
    features, index, channels = {}, 0, 32
    for expansion, filters, depth, first_stride in _GROUPS:
        for repeat in range(min(depth, num_blocks - index)):
            index += 1
            name, block_input = f"mobile_{index}", x
            if expansion > 1:
                x = convolution.conv_norm(x, expansion * channels, 1, name=f"{name}_expand", **kwargs)
                x = _relu6(x, f"{name}_expand")
            stride = first_stride if repeat == 0 else 1
            x = convolution.depthwise_norm(x, 3, stride=stride, name=f"{name}_depthwise", **kwargs)
            x = _relu6(x, f"{name}_depthwise")
            x = convolution.conv_norm(x, filters, 1, name=f"{name}_project", **kwargs)
            if stride == 1 and channels == filters:
                x = keras.layers.Add(name=f"{name}_output")([block_input, x])
            else:
                x = keras.layers.Identity(name=f"{name}_output")(x)
            channels = filters
            if index in _TAPS:
                features[_TAPS[index]] = x
    features["C5"] = x
    if has_last:
        x = convolution.conv_norm(x, _LAST_CHANNELS, 1, name=LAST, **kwargs)
        features["C5"] = _relu6(x, LAST)
    return features


def _relu6(x, name: str):
    return keras.layers.ReLU(6.0, name=layer_name.relu_of(name))(x)
