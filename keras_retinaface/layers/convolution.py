"""Convolution + batch norm + leaky ReLU, the brick of every block; padded as in PyTorch, so public weights fit exactly."""

from __future__ import annotations

import keras

# PyTorch's defaults (its momentum 0.1 is Keras's 0.9), which the public weights were trained with.
_NORM = {"momentum": 0.9, "epsilon": 1e-5}


def conv_norm(
    x,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    negative_slope: float | None,
):
    """Applies convolution, batch norm and a leaky ReLU.

    Args:
        x: `[B, H, W, C]`.
        filters: output channels.
        kernel_size: odd side of the kernel.
        name: of the convolution; the norm is `name_bn`, the activation `name_relu`.
        stride: 1 or 2; the output is the input over it, rounded up, for odd sizes too.
        negative_slope: of the leaky ReLU; 0 is plain ReLU, None is no activation.

    Returns:
        `[B, ceil(H / stride), ceil(W / stride), filters]`.
    """
    x, padding = _pad(x, kernel_size, stride, name)
    x = keras.layers.Conv2D(filters, kernel_size, strides=stride, padding=padding, use_bias=False, name=name)(x)
    return _norm_activation(x, name, negative_slope)


def depthwise_norm(x, kernel_size: int, *, name: str, stride: int = 1, negative_slope: float | None):
    """Applies depthwise convolution, batch norm and a leaky ReLU; arguments as for `conv_norm`."""
    x, padding = _pad(x, kernel_size, stride, name)
    x = keras.layers.DepthwiseConv2D(kernel_size, strides=stride, padding=padding, use_bias=False, name=name)(x)
    return _norm_activation(x, name, negative_slope)


def _pad(x, kernel_size: int, stride: int, name: str):
    # "same" with stride 2 pads an even side after the last pixel only, PyTorch pads both ends.
    if stride == 1 or kernel_size == 1:
        return x, "same"
    return keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x), "valid"


def _norm_activation(x, name: str, negative_slope: float | None):
    x = keras.layers.BatchNormalization(name=f"{name}_bn", **_NORM)(x)
    if negative_slope is None:
        return x
    return keras.layers.ReLU(negative_slope=negative_slope, name=f"{name}_relu")(x)
