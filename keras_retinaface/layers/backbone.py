"""Feature extractors by name: image in, feature maps C2..C5 out, and what is known about each."""

from __future__ import annotations

import keras

from keras_retinaface.layers import convolution, mobilenet_v2, resampling, resnet

# (filters, stride) of the depthwise-separable blocks of MobileNetV1 at width 0.25; the stages of the public layout.
_MOBILENET025_STAGES = {
    "stage1": ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),
    "stage2": ((128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1)),
    "stage3": ((256, 2), (256, 1)),
}
# Filters of the first layers of the resampled one, up to stride 4: twice as many and less, because what a larger image
# would spread over more pixels must go into channels.
_RESAMPLED_STEM = (16, 24, 48, 48)

# Means of red, green and blue that the first layer takes away. Divisions, and the order of the channels, are in the
# kernel of the first convolution instead: `backbone_weights` puts them there.
_MEANS = {
    "public": (123.0, 117.0, 104.0),
    "torchvision": (123.675, 116.28, 103.53),
    "keras": (123.68, 116.779, 103.939),
    "mobilenet_v2 of keras": (127.5, 127.5, 127.5),
}


def mobilenet025(x, negative_slope: float) -> dict:
    """Builds MobileNetV1 at width 0.25 without its classifier.

    Args:
        x: `[B, H, W, 3]`, preprocessed.
        negative_slope: of its leaky ReLUs.

    Returns:
        Feature maps by name: C2 `[B, H/4, W/4, 32]`, C3 64 channels, C4 128, C5 256, sizes rounded up.

    Source: MobileNets (Howard et al., 2017).
    """
    x = convolution.conv_norm(x, 8, 3, stride=2, negative_slope=negative_slope, name="stage1_0")
    features = {}
    level = 1  # log2 of the stride so far
    for stage, blocks in _MOBILENET025_STAGES.items():
        for name, (filters, stride) in zip(_block_names(stage), blocks):
            x = _separable(x, filters, stride, negative_slope, name=name)
            level += stride == 2
            features[f"C{level}"] = x
    return {name: features[name] for name in ("C2", "C3", "C4", "C5")}


def mobilenet025_resampled(x, negative_slope: float, stride: int) -> dict:
    """Builds MobileNetV1 at width 0.25 so that it sees an image as if enlarged, from stride 4 on.

    A small image that is enlarged for the sake of small faces holds no more than before, and the layers up to stride 4
    take half of a network's time. So these see the image as it is, with more filters, and what they find is resized
    from stride 4 to `stride`, where 8 would be that of the image itself: 5 is an image enlarged 1.6 times. Up to there
    all ReLUs are plain, which fuse.

    Args:
        x: `[B, H, W, 3]`, preprocessed.
        negative_slope: of the leaky ReLUs from C3 on.
        stride: of C3, pixels: 5, 6 or 7.

    Returns:
        Feature maps by name: C2 `[B, H/4, W/4, 48]`, C3 64 channels at the stride, C4 128 at twice that, C5 256.

    Source: this project; docs/training.md has what it was compared with.
    """
    stem, *widths = _RESAMPLED_STEM
    x = convolution.conv_norm(x, stem, 3, stride=2, negative_slope=0.0, name="stage1_0")
    *names, resized, last = _block_names("stage1")
    for name, filters, step in zip(names, widths, (1, 2, 1)):
        x = _separable(x, filters, step, 0.0, name=name)
    features = {"C2": x}
    x = convolution.depthwise_norm(x, 3, negative_slope=0.0, name=f"{resized}_depthwise")
    x = resampling.Resample(4, stride, name="resample")(x)
    x = convolution.conv_norm(x, 64, 1, negative_slope=0.0, name=f"{resized}_pointwise")
    x = convolution.depthwise_norm(x, 3, negative_slope=0.0, name=f"{last}_depthwise")
    features["C3"] = x = convolution.conv_norm(x, 64, 1, negative_slope=negative_slope, name=f"{last}_pointwise")
    for level, stage in ((4, "stage2"), (5, "stage3")):
        for name, (filters, step) in zip(_block_names(stage), _MOBILENET025_STAGES[stage]):
            x = _separable(x, filters, step, negative_slope, name=name)
        features[f"C{level}"] = x
    return features


def _block_names(stage: str) -> list[str]:
    first = 1 if stage == "stage1" else 0  # whose 0 is the stem
    return [f"{stage}_{index}" for index in range(first, first + len(_MOBILENET025_STAGES[stage]))]


def _separable(x, filters: int, stride: int, negative_slope: float, *, name: str):
    x = convolution.depthwise_norm(x, 3, stride=stride, negative_slope=negative_slope, name=f"{name}_depthwise")
    return convolution.conv_norm(x, filters, 1, negative_slope=negative_slope, name=f"{name}_pointwise")


def build(name: str, x, *, negative_slope: float, layout: str = "torchvision", stride: int = 8) -> dict:
    """Builds a backbone by name.

    Args:
        name: one of `config.BACKBONES`.
        x: `[B, H, W, 3]`, less `mean`.
        negative_slope: of the leaky ReLUs of MobileNetV1.
        layout: one of `config.LAYOUTS`; see `resnet.build` and `mobilenet_v2.build`.
        stride: of C3 of the resampled MobileNetV1, pixels; that of the others is 8.

    Returns:
        Feature maps by name, C2 (stride 4) to C5 (stride 32, or four times `stride`).

    Raises:
        ValueError: if there is no such backbone.
    """
    if name == "mobilenet025":
        return mobilenet025(x, negative_slope)
    if name == "mobilenet025_resampled":
        return mobilenet025_resampled(x, negative_slope, stride)
    if name == "mobilenet_v2":
        return mobilenet_v2.build(x, layout=layout)
    if name in resnet.DEPTHS:
        return resnet.build(name, x, layout=layout)
    raise ValueError(f"`backbone` is not known. Received: backbone={name!r}")


def mean(name: str, layout: str) -> tuple[float, float, float]:
    """Returns the means of red, green and blue, 0..255, that a backbone's weights were trained with."""
    if name.startswith("mobilenet025"):
        return _MEANS["public"]
    if name == "mobilenet_v2" and layout == "keras":
        return _MEANS["mobilenet_v2 of keras"]
    return _MEANS[layout]


def block_outputs(name: str) -> list[str]:
    """Returns the layers at which a backbone is one tensor wide, in order: the ends of its blocks."""
    if name in resnet.DEPTHS:
        return ["pool1"] + [f"{block}_relu" for block in resnet.block_names(name)]
    if name == "mobilenet_v2":
        return ["mobile_0_relu"] + [f"{block}_output" for block in mobilenet_v2.block_names()]
    blocks = [f"{block}_pointwise_relu" for stage in _MOBILENET025_STAGES for block in _block_names(stage)]
    return ["stage1_0_relu", *blocks]


def taps(name: str) -> dict[str, str]:
    """Returns the layers whose outputs are C1 (the stem) to C5."""
    blocks = block_outputs(name)
    if name in resnet.DEPTHS:
        ends = [block for block in blocks if block != "pool1"]
        last = {f"C{stage}": [block for block in ends if block.startswith(f"C{stage}_")][-1] for stage in range(2, 6)}
    elif name == "mobilenet_v2":
        last = {"C2": blocks[3], "C3": blocks[6], "C4": blocks[13], "C5": blocks[17]}
    else:
        last = {"C2": blocks[3], "C3": blocks[5], "C4": blocks[11], "C5": blocks[13]}
    return {"C1": blocks[0], **last}


def layers_up_to(model: keras.Model, stage: str) -> list[keras.layers.Layer]:
    """Returns the layers that one of `taps` of a RetinaFace is computed by."""
    tap = taps(model.config.network.backbone)[stage]
    return keras.Model(model.inputs[0], model.get_layer(tap).output).layers
