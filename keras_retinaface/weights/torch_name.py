"""Which layer of ours a module of a PyTorch network is: torchvision's backbones, biubug6's and yakhyo's parts.

Knows names alone, no numbers; loads without TensorFlow.
"""

from __future__ import annotations

import re

import numpy as np

from keras_retinaface.layers import layer_name

NORM = dict(zip(("weight", "bias", "running_mean", "running_var"), layer_name.NORM_ARRAYS))
# What a norm counts beside its numbers.
COUNTER = "num_batches_tracked"
_CONTEXT = {
    "conv3X3": "3x3",
    "conv5X5_1": "5x5_1",
    "conv5X5_2": "5x5_2",
    "conv7X7_2": "7x7_2",
    "conv7x7_3": "7x7_3",
}
_HEADS = {"classhead": "class", "bboxhead": "box", "landmarkhead": "landmark"}
_NUM_BLOCKS = 17
_BLOCK_PARTS = ("depthwise", "pointwise")


def mobilenet_v1(prefix: str) -> str | None:
    """Returns the layer of a module of MobileNetV1, `stage1.0.0`, or None.

    biubug6 numbers depthwise and pointwise of a block from 0 to 5, yakhyo has blocks of their own: 0.0 to 1.1.
    """
    if match := re.fullmatch(r"stage1\.0\.([01])", prefix):
        return part("stage1_0", match[1] == "1")
    if match := re.fullmatch(r"(stage[123])\.(\d+)\.([0134])", prefix):
        return part(f"{match[1]}_{match[2]}_{_BLOCK_PARTS[int(match[3]) // 3]}", int(match[3]) % 3 == 1)
    if match := re.fullmatch(r"(stage[123])\.(\d+)\.([01])\.([01])", prefix):
        return part(f"{match[1]}_{match[2]}_{_BLOCK_PARTS[int(match[3])]}", match[4] == "1")
    return None


def mobilenet_v2(prefix: str) -> str | None:
    """Returns the layer of a module of torchvision's MobileNetV2, `features.0.0`, or None."""
    if match := re.fullmatch(r"features\.(0|18)\.([01])", prefix):
        return part(f"mobile_{match[1]}", match[2] == "1")
    match = re.fullmatch(r"features\.(\d+)\.conv\.(\d)(?:\.([01]))?", prefix)
    if not match or not 1 <= int(match[1]) <= _NUM_BLOCKS:
        return None
    # The first block expands nothing, so its parts stand one place earlier.
    parts = [("project", False), ("project", True)]
    parts = [("depthwise", False), *parts] if match[1] == "1" else [("expand", False), ("depthwise", False), *parts]
    if int(match[2]) >= len(parts):
        return None
    name, is_norm = parts[int(match[2])]
    return part(f"mobile_{match[1]}_{name}", is_norm or match[3] == "1")


def resnet(prefix: str) -> str | None:
    """Returns the layer of a module of torchvision's ResNets, `layer1.0.conv1`, or None."""
    if prefix in ("conv1", "bn1"):
        return part("conv1", prefix == "bn1")
    if match := re.fullmatch(r"layer([1-4])\.(\d+)\.(conv|bn)([123])", prefix):
        return part(f"C{int(match[1]) + 1}_{match[2]}_conv{match[4]}", match[3] == "bn")
    if match := re.fullmatch(r"layer([1-4])\.(\d+)\.downsample\.([01])", prefix):
        return part(f"C{int(match[1]) + 1}_{match[2]}_shortcut", match[3] == "1")
    return None


def behind_backbone(prefix: str) -> str | None:
    """Returns the layer of a module of pyramid, context or heads, as biubug6 and yakhyo call them, or None."""
    if match := re.fullmatch(r"fpn\.(output|merge)([123])\.([01])", prefix):
        kind = {"output": "lateral", "merge": "merge"}[match[1]]
        return part(f"{kind}_P{int(match[2]) + 2}", match[3] == "1")
    if match := re.fullmatch(r"ssh([123])\.(\w+)\.([01])", prefix):
        if match[2] in _CONTEXT:
            return part(f"context_P{int(match[1]) + 2}_{_CONTEXT[match[2]]}", match[3] == "1")
    if match := re.fullmatch(r"(\w+)\.([012])\.conv1x1|(\w+_head)\.(?:\3\.)?([012])", prefix):
        name = (match[1] or match[3].replace("_", "")).lower()
        if name in _HEADS:
            return f"{_HEADS[name]}_P{int(match[2] or match[4]) + 3}"
    return None


def part(convolution: str, is_norm: bool) -> str:
    """Returns the first part of a block, its convolution, or the second, its norm."""
    return layer_name.norm_of(convolution) if is_norm else convolution


def to_ours(layer: str, leaf: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns the name and form that an array of a module has in our network.

    Raises:
        ValueError: if such a layer has no such array.
    """
    if layer_name.is_norm(layer):
        if leaf not in NORM:
            raise ValueError(f"{layer} has no {leaf}")
        return f"{layer}/{NORM[leaf]}", array
    if leaf == "bias":
        return f"{layer}/bias", array
    if leaf != "weight" or array.ndim != 4:
        raise ValueError(f"{layer}: a convolution kernel has 4 axes. Received: {leaf} of shape {array.shape}")
    axes = (2, 3, 0, 1) if layer_name.is_depthwise(layer) else (2, 3, 1, 0)
    return f"{layer}/kernel", np.transpose(array, axes)
