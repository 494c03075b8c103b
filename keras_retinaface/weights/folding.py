"""Folds batch norms into the convolutions before them, without changing what a network computes; see `unfolding`."""

from __future__ import annotations

import keras
import numpy as np


def fold_norms(model: keras.Model) -> None:
    """Leaves of every batch norm its bias alone, as an export for inference does.

    Networks that were trained from one start can then be averaged weight by weight: a filter and its norm's scale are
    one number, however they were divided between the two.

    Args:
        model: a RetinaFace; its outputs stay the same up to rounding.
    """
    for convolution, norm in pairs(model):
        gamma, beta, mean, variance = (variable.numpy() for variable in norm.weights)
        slope = gamma / np.sqrt(variance + norm.epsilon)
        scale_filters(convolution, slope)
        ones = np.ones_like(gamma)
        norm.set_weights([ones, beta - mean * slope, 0 * ones, ones - norm.epsilon])


def pairs(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Returns every convolution that a batch norm follows, with that norm."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [(model.get_layer(norm.name[: -len("_bn")]), norm) for norm in norms]


def scale_filters(convolution: keras.layers.Layer, factors: np.ndarray) -> None:
    """Multiplies every filter of an ordinary or depthwise convolution by its factor, `[filters]`."""
    kernel = convolution.weights[0].numpy()
    # A depthwise kernel is [h, w, channels, 1], an ordinary one [h, w, in, out].
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    convolution.weights[0].assign(kernel * (factors[:, None] if is_depthwise else factors))
