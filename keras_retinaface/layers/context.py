"""The context module: three branches with growing receptive fields."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from keras_retinaface.layers import convolution


def build(x, channels: int, *, negative_slope: float, name: str, deformable: Mapping | None = None):
    """Builds one context module.

    Args:
        x: `[B, H, W, C]`, a pyramid level of any channels.
        channels: channels of the output: half see 3 x 3 pixels of `x`, a quarter 5 x 5, a quarter 7 x 7.
        negative_slope: slope under 0 of the leaky ReLUs inside; the output passes a plain ReLU.
        name: prefix of the layers.
        deformable: arguments of `DeformableConv2D`, or None for ordinary convolutions.

    Returns:
        `[B, H, W, channels]`.

    Source: SSH (Najibi et al., 2017), with the second branch feeding the third.
    """
    half, quarter = channels // 2, channels // 4
    # The last ReLU stands in each branch instead of behind the concatenation: the same numbers, and a runtime can
    # fuse it into the convolution.
    branch3 = convolution.conv_norm(x, half, 3, deformable=deformable, negative_slope=0.0, name=f"{name}_3x3")
    stem = convolution.conv_norm(
        x, quarter, 3, deformable=deformable, negative_slope=negative_slope, name=f"{name}_5x5_1"
    )
    branch5 = convolution.conv_norm(stem, quarter, 3, deformable=deformable, negative_slope=0.0, name=f"{name}_5x5_2")
    middle = convolution.conv_norm(
        stem, quarter, 3, deformable=deformable, negative_slope=negative_slope, name=f"{name}_7x7_2"
    )
    branch7 = convolution.conv_norm(middle, quarter, 3, deformable=deformable, negative_slope=0.0, name=f"{name}_7x7_3")
    return keras.layers.Concatenate(name=f"{name}_concat")([branch3, branch5, branch7])
