"""Which layer of ours a layer of `keras.applications` is. Knows names alone; loads without TensorFlow."""

from __future__ import annotations

import re

from keras_retinaface.weights import torch_name


def resnet(layer: str) -> str | None:
    """Returns the layer of ours for one of ResNet-50, `conv2_block1_1_conv`, or None."""
    if layer in ("conv1_conv", "conv1_bn"):
        return torch_name.part("conv1", layer == "conv1_bn")
    if match := re.fullmatch(r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)", layer):
        part = f"conv{match[3]}" if match[3] != "0" else "shortcut"
        return torch_name.part(f"C{match[1]}_{int(match[2]) - 1}_{part}", match[4] == "bn")
    return None


def mobilenet_v2(layer: str) -> str | None:
    """Returns the layer of ours for one of MobileNetV2, `block_1_expand`, or None."""
    if layer in ("Conv_1", "Conv_1_bn"):
        return torch_name.part("mobile_18", layer == "Conv_1_bn")
    if layer in ("Conv1", "bn_Conv1"):
        return torch_name.part("mobile_0", layer == "bn_Conv1")
    if match := re.fullmatch(r"(?:expanded_conv|block_(\d+))_(expand|depthwise|project)(_BN)?", layer):
        return torch_name.part(f"mobile_{int(match[1] or 0) + 1}_{match[2]}", bool(match[3]))
    return None
