"""Feature extractors by name: image in, feature maps C2..C5 out, and what is known about each."""

from __future__ import annotations

import keras

from keras_retinaface import image_mean
from keras_retinaface.layers import convolution, layer_name, mobilenet_v2, resnet, resnet_v2

# (filters, stride) of the depthwise-separable blocks of MobileNetV1 at width 0.25; the stages of the public layout.
_MOBILENET_STAGES = {
    "stage1": ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),
    "stage2": ((128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1)),
    "stage3": ((256, 2), (256, 1)),
}

# How many times the filters of width 0.25.
_MOBILENETS = {"mobilenet025": 1, "mobilenet050": 2, "mobilenet100": 4}
# Blocks of each; the largest has one convolution more.
MOBILENETS_V2 = {"mobilenet_v2_160": 16, "mobilenet_v2": 17, "mobilenet_v2_1280": 17}

_MEANS = {"torchvision": image_mean.TORCHVISION, "keras": image_mean.KERAS}


def mobilenet_v1(x, negative_slope: float, *, width: int) -> dict:
    """Builds MobileNetV1 without its classifier.

    Args:
        x: `[B, H, W, 3]`, preprocessed.
        negative_slope: slope under 0 of its leaky ReLUs.
        width: width in quarters of the published network's.

    Returns:
        Feature maps by name: C2 `[B, H/4, W/4, 32 width]`, each further one of twice the channels, sizes
        rounded up.

    Source: MobileNets (Howard et al., 2017).
    """
    x = convolution.conv_norm(x, 8 * width, 3, stride=2, negative_slope=negative_slope, name="stage1_0")
    features = {}
    level = 1  # log2 of the stride so far
    for stage, blocks in _MOBILENET_STAGES.items():
        first = 1 if stage == "stage1" else 0
        for index, (filters, stride) in enumerate(blocks, start=first):
            name = f"{stage}_{index}"
            x = convolution.depthwise_norm(x, 3, stride=stride, negative_slope=negative_slope, name=f"{name}_depthwise")
            x = convolution.conv_norm(x, filters * width, 1, negative_slope=negative_slope, name=f"{name}_pointwise")
            level += stride == 2
            features[f"C{level}"] = x
    return {name: features[name] for name in ("C2", "C3", "C4", "C5")}


def build(name: str, x, *, negative_slope: float, layout: str = "torchvision") -> dict:
    """Builds a backbone by name.

    Args:
        name: one of `config.BACKBONES`.
        x: `[B, H, W, 3]`, less `mean`.
        negative_slope: slope under 0 of the leaky ReLUs of MobileNetV1.
        layout: one of `config.LAYOUTS`; see `resnet.build` and `mobilenet_v2.build`.

    Returns:
        Feature maps by name, C2 (stride 4) to C5 (stride 32).

    Raises:
        ValueError: if there is no such backbone.
    """
    if name in _MOBILENETS:
        return mobilenet_v1(x, negative_slope, width=_MOBILENETS[name])
    if name in MOBILENETS_V2:
        return mobilenet_v2.build(
            x, layout=layout, num_blocks=MOBILENETS_V2[name], has_last=name == "mobilenet_v2_1280"
        )
    if name == resnet_v2.NAME:
        return resnet_v2.build(x)
    if name in resnet.DEPTHS:
        return resnet.build(name, x, layout=layout)
    raise ValueError(f"`backbone` is not known. Received: backbone={name!r}")


def mean(name: str, layout: str) -> tuple[float, float, float]:
    """Returns the means of red, green and blue, 0..255, that a backbone's weights were trained with."""
    if name in _MOBILENETS:
        return image_mean.PUBLIC
    if name in MOBILENETS_V2 and layout == "keras":
        return image_mean.KERAS_MOBILENET_V2
    return _MEANS[layout]


def block_outputs(name: str) -> list[str]:
    """Returns the layers at which a backbone is one tensor wide, in order: the ends of its blocks.

    Raises:
        ValueError: if it has none that its maps are taken from.
    """
    if name == resnet_v2.NAME:
        raise ValueError(f"`use_recompute` cannot cut {name}, whose maps are taken within its units")
    if name in resnet.DEPTHS:
        return ["pool1"] + [layer_name.relu_of(block) for block in resnet.block_names(name)]
    if name in MOBILENETS_V2:
        last = [layer_name.relu_of(mobilenet_v2.LAST)] if name == "mobilenet_v2_1280" else []
        blocks = mobilenet_v2.block_names(MOBILENETS_V2[name])
        return [layer_name.relu_of("mobile_0"), *(f"{block}_output" for block in blocks), *last]
    blocks = [
        layer_name.relu_of(f"{stage}_{index}_pointwise")
        for stage, blocks in _MOBILENET_STAGES.items()
        for index in range(stage == "stage1", len(blocks) + (stage == "stage1"))
    ]
    return [layer_name.relu_of("stage1_0"), *blocks]


def stem(name: str) -> str:
    """Returns the first convolution."""
    if name in _MOBILENETS:
        return "stage1_0"
    return "mobile_0" if name in MOBILENETS_V2 else "conv1"


def taps(name: str) -> dict[str, str]:
    """Returns the layers whose outputs are C1 (the stem) to C5."""
    if name == resnet_v2.NAME:
        return {"C1": "pool1", **resnet_v2.TAPS}
    blocks = block_outputs(name)
    if name in resnet.DEPTHS:
        ends = [block for block in blocks if block != "pool1"]
        last = {f"C{stage}": [block for block in ends if block.startswith(f"C{stage}_")][-1] for stage in range(2, 6)}
    elif name in MOBILENETS_V2:
        last = {"C2": blocks[3], "C3": blocks[6], "C4": blocks[13], "C5": blocks[-1]}
    else:
        last = {"C2": blocks[3], "C3": blocks[5], "C4": blocks[11], "C5": blocks[13]}
    return {"C1": blocks[0], **last}


def layers_up_to(model: keras.Model, stage: str) -> list[keras.layers.Layer]:
    """Returns the layers that one of `taps` of a RetinaFace is computed by."""
    tap = taps(model.config.network.backbone)[stage]
    return keras.Model(model.inputs[0], model.get_layer(tap).output).layers
