"""Gives the channels of a feature map one range, so that an int8 tensor, which has one scale, wastes no places."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

# Largest factor by which a channel is stretched; beyond, its weights would be all that is left of it.
_MAX_FACTOR = 64.0


def equalize(model, images: Sequence[np.ndarray]):
    """Copies a model and scales channels between its layers; the copy computes the same.

    (Leaky) ReLUs pass a positive factor through, so a channel can leave its norm divided by a number that the kernels
    of the next convolutions multiply with. The factor makes the largest value of each channel the same. Channels that
    go anywhere but through ReLU and padding into convolutions stay as they are.

    Args:
        model: a RetinaFace.
        images: uint8 `[1, H, W, 3]`, RGB, that ranges are measured on.

    Returns:
        A RetinaFace.

    Source: Data-Free Quantization (Nagel et al., 2019), section 4.1, with measured activations for weight ranges.
    """
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    seams = {norm.name: (norm, convolutions) for norm, convolutions in map(_seam, copy.layers) if convolutions}
    if not seams:
        return copy
    ranges = _ranges(copy, [norm for norm, _ in seams.values()], images)
    for name, (norm, convolutions) in seams.items():
        wide = ranges[name] > 0
        target = np.median(ranges[name][wide]) if wide.any() else 1.0
        factors = np.where(wide, ranges[name] / target, 1.0)
        factors = np.clip(factors, 1 / _MAX_FACTOR, _MAX_FACTOR).astype(np.float32)
        gamma, beta, *statistics = norm.get_weights()
        norm.set_weights([gamma / factors, beta / factors, *statistics])
        for convolution in convolutions:
            kernel, *bias = convolution.get_weights()  # [height, width, channels, filters], depthwise filters 1
            convolution.set_weights([kernel * factors[:, None], *bias])
    return copy


def _seam(norm) -> tuple:
    """Returns a norm and the convolutions behind its ReLU; none if anything else is there."""
    if not isinstance(norm, keras.layers.BatchNormalization):
        return norm, []
    (relu,) = behind if len(behind := _consumers(norm)) == 1 else (None,)
    if not isinstance(relu, keras.layers.ReLU) or relu.max_value is not None:
        return norm, []
    convolutions = []
    for layer in _consumers(relu):
        convolutions += _consumers(layer) if isinstance(layer, keras.layers.ZeroPadding2D) else [layer]
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return norm, convolutions if all(type(layer) in kinds for layer in convolutions) else []


def _consumers(layer) -> list:
    # Keras 3 calls the layer of a node its operation.
    return [getattr(node, "operation", None) or node.outbound_layer for node in layer._outbound_nodes]


def _ranges(model, norms, images) -> dict[str, np.ndarray]:
    """Measures the largest value of each channel behind norms; the negative side counts where the ReLU keeps it."""
    has_slope = model.config.network.negative_slope > 0
    probe = keras.Model(model.input, {norm.name: norm.output for norm in norms})
    ranges = {norm.name: np.zeros(norm.output.shape[-1]) for norm in norms}
    for image in images:
        for name, values in probe(np.asarray(image, np.float32), training=False).items():
            values = np.asarray(values)
            values = np.abs(values) if has_slope else np.maximum(values, 0)
            ranges[name] = np.maximum(ranges[name], values.max(axis=(0, 1, 2)))
    return ranges
