"""Convolution, batch norm and leaky ReLU, the brick of every block; padded as in PyTorch, so public weights fit."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from keras_retinaface.layers import deform_conv, layer_name

# PyTorch's defaults (its momentum 0.1 is Keras's 0.9), which the public weights were trained with.
_MOMENTUM = 0.9
_EPSILON = 1e-5


def conv_norm(
    x,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    negative_slope: float | None,
    epsilon: float = _EPSILON,
    padding: str = "symmetric",
    deformable: Mapping | None = None,
):
    """Applies convolution, batch norm and a leaky ReLU.

    Args:
        x: `[B, H, W, C]`.
        filters: output channels.
        kernel_size: odd side of the kernel.
        name: name of the convolution; the norm is `name_bn`, the activation `name_relu`.
        stride: 1 or 2; the output is the input over it, rounded up, for odd sizes too.
        negative_slope: slope under 0 of the leaky ReLU; 0 is plain ReLU, None is no activation.
        epsilon: what is added to the variance of the norm.
        padding: "symmetric" as in PyTorch, or "same" as in TensorFlow; they differ where the stride is 2.
        deformable: arguments of a `DeformableConv2D`, or None for an ordinary convolution.

    Returns:
        `[B, ceil(H / stride), ceil(W / stride), filters]`.
    """
    x, padding = _pad(x, kernel_size, stride, padding, name)
    kwargs = {"strides": stride, "padding": padding, "use_bias": False, "name": name}
    if deformable is None:
        x = keras.layers.Conv2D(filters, kernel_size, **kwargs)(x)
    else:
        x = deform_conv.DeformableConv2D(filters, kernel_size, **kwargs, **deformable)(x)
    return norm_activation(x, name, negative_slope, epsilon=epsilon)


def depthwise_norm(
    x,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    negative_slope: float | None,
    epsilon: float = _EPSILON,
    padding: str = "symmetric",
):
    """Applies depthwise convolution, batch norm and a leaky ReLU; arguments as for `conv_norm`."""
    x, padding = _pad(x, kernel_size, stride, padding, name)
    x = keras.layers.DepthwiseConv2D(kernel_size, strides=stride, padding=padding, use_bias=False, name=name)(x)
    return norm_activation(x, name, negative_slope, epsilon=epsilon)


def _pad(x, kernel_size: int, stride: int, padding: str, name: str):
    # "same" with stride 2 pads an even side after the last pixel only, PyTorch pads both ends.
    if stride == 1 or kernel_size == 1 or padding == "same":
        return x, "same"
    return keras.layers.ZeroPadding2D(kernel_size // 2, name=layer_name.padding_of(name))(x), "valid"


def norm_activation(x, name: str, negative_slope: float | None, *, epsilon: float = _EPSILON):
    """Applies batch norm and a leaky ReLU, `name_bn` and `name_relu`; arguments as for `conv_norm`."""
    x = keras.layers.BatchNormalization(momentum=_MOMENTUM, epsilon=epsilon, name=layer_name.norm_of(name))(x)
    if negative_slope is None:
        return x
    return keras.layers.ReLU(negative_slope=negative_slope, name=layer_name.relu_of(name))(x)
