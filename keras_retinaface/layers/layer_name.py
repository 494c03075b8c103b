"""What a layer's name says: whether it is a norm, which convolution it follows, which part of the network it is in.

The one place that takes names apart. Imports nothing, so that weights can be renamed where there is no TensorFlow.
"""

from __future__ import annotations

import re

_NORM, _RELU, _PADDING = "_bn", "_relu", "_pad"
# The arrays of a norm, in the order that Keras keeps them.
NORM_ARRAYS = ("gamma", "beta", "moving_mean", "moving_variance")
BACKBONE, PYRAMID, CONTEXT, HEADS, DENSE_HEAD = "backbone", "pyramid", "context", "heads", "dense head"
# In the order of the network. Every layer of a RetinaFace is in one part only.
_PARTS = {
    # The input, and the blocks of MobileNetV1, MobileNetV2 and the ResNets.
    BACKBONE: r"image|subtract_mean|stage\d_\d+|mobile_\d+|conv1|pool1|C\d_\d+|post",
    PYRAMID: r"(?:lateral|upsample|add|merge|extra)_P\d",
    CONTEXT: r"context_P\d",
    HEADS: r"(?:class|box|landmark)(?:_rows)?_P\d|(?:class|box|landmark)_head|scores|box_deltas|landmark_deltas",
    DENSE_HEAD: r"dense_\w+|mesh_code",
}
_PATTERNS = {part: re.compile(rf"(?:{pattern})(?:_\w+)?") for part, pattern in _PARTS.items()}
PARTS = tuple(_PARTS)
_SCORE_HEAD = "class"


def norm_of(convolution: str) -> str:
    """Returns the name of the norm behind a convolution."""
    return convolution + _NORM


def relu_of(convolution: str) -> str:
    """Returns the name of the activation behind a convolution and its norm."""
    return convolution + _RELU


def padding_of(convolution: str) -> str:
    """Returns the name of the layer that pads a convolution's input."""
    return convolution + _PADDING


def convolution_of(name: str) -> str:
    """Returns the convolution that a norm, activation or padding belongs to; other names come back as they are."""
    for suffix in (_NORM, _RELU, _PADDING):
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def is_norm(name: str) -> bool:
    """Returns whether a layer is a norm."""
    return name.endswith(_NORM)


def is_depthwise(name: str) -> bool:
    """Returns whether a layer is a depthwise convolution."""
    return name.endswith("_depthwise")


def is_shared_head(name: str) -> bool:
    """Returns whether a layer is a head that all levels of the pyramid share."""
    return name.endswith("_head")


def is_score_head(name: str) -> bool:
    """Returns whether a layer is a convolution that gives scores."""
    return re.fullmatch(rf"{_SCORE_HEAD}_(?:P\d|head)", name) is not None


def part_of(name: str) -> str:
    """Returns which of `PARTS` a layer is in.

    Raises:
        ValueError: if it is in none or in several.
    """
    parts = [part for part, pattern in _PATTERNS.items() if pattern.fullmatch(name)]
    if len(parts) != 1:
        raise ValueError(f"`name` must be of a layer in one of {PARTS}. Received: {name!r}, in {parts}")
    return parts[0]
