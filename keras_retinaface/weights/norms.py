"""Folds batch norms into the convolutions before them, and puts them back; neither changes what a network computes.

Folded weights cannot be fine-tuned well: nothing normalises any more, and kernels whose input is large (0..255 in the
first layer) or whose scale is small move too far with every step.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_retinaface.layers import layer_name

# Euclidean length of every filter afterwards: that of He initialisation. Under a norm the length changes nothing but
# how far a step of a given learning rate turns the filter.
_FILTER_LENGTH = np.sqrt(2.0)


def fold_norms(model: keras.Model) -> None:
    """Leaves of every batch norm its bias alone, as an export for inference does.

    Networks that were trained from one start can then be averaged weight by weight: a filter and its norm's scale are
    one number, however they were divided between the two.

    Args:
        model: a RetinaFace; its outputs stay the same up to rounding.
    """
    for convolution, norm in _pairs(model):
        gamma, beta, mean, variance = (variable.numpy() for variable in norm.weights)
        slope = gamma / np.sqrt(variance + norm.epsilon)
        _scale_filters(convolution, slope)
        ones = np.ones_like(gamma)
        norm.set_weights([ones, beta - mean * slope, 0 * ones, ones - norm.epsilon])


def unfold_norms(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Gives every batch norm the mean and variance that its convolution really has, and scales to make up for it.

    Args:
        model: a RetinaFace; its outputs stay the same up to rounding.
        batches: images as the model takes them, `[B, H, W, 3]`, RGB; some dozens, like those to train on.

    Raises:
        ValueError: if there are no images.
    """
    pairs = _pairs(model)
    statistics = _statistics(model, [norm.input for _, norm in pairs], batches)
    for (convolution, norm), (mean, variance) in zip(pairs, statistics):
        gamma, beta, old_mean, old_variance = (variable.numpy() for variable in norm.weights)
        kernel = convolution.weights[0].numpy()
        is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
        axes = (0, 1, 3) if is_depthwise else (0, 1, 2)
        length = np.sqrt(np.sum(np.square(kernel), axis=axes))
        scale = np.where(length > 0, _FILTER_LENGTH / np.maximum(length, 1e-12), 1.0).astype(np.float32)
        slope = gamma / np.sqrt(old_variance + norm.epsilon)
        new_variance = variance * np.square(scale)
        _scale_filters(convolution, scale)
        norm.set_weights(
            [
                slope * np.sqrt(new_variance + norm.epsilon) / scale,
                beta + slope * (mean - old_mean),
                mean * scale,
                new_variance,
            ]
        )


def _statistics(model, tensors: list, batches: Iterable[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Computes mean and variance per channel of feature maps over all images."""
    probe = keras.Model(model.input, tensors)

    @tf.function(reduce_retracing=True)
    def sums(images):
        maps = probe(tf.cast(images, tf.float32), training=False)
        return [(tf.reduce_sum(x, [0, 1, 2]), tf.reduce_sum(tf.square(x), [0, 1, 2]), tf.size(x[..., 0])) for x in maps]

    totals = None
    for images in batches:
        parts = [[np.asarray(value, np.float64) for value in part] for part in sums(images)]
        totals = parts if totals is None else [[a + b for a, b in zip(*pair)] for pair in zip(totals, parts)]
    if totals is None:
        raise ValueError("`batches` must hold at least one batch of images. Received: none")
    return [
        ((total / count).astype(np.float32), np.maximum(square / count - (total / count) ** 2, 0).astype(np.float32))
        for total, square, count in totals
    ]


def _pairs(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Returns every convolution that a batch norm follows, with that norm."""
    layers = {layer.name: layer for layer in model.layers}
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    # Norms that stand before convolutions stay as they are.
    found = [(layers.get(layer_name.convolution_of(norm.name)), norm) for norm in norms]
    return [(convolution, norm) for convolution, norm in found if convolution is not None]


def _scale_filters(convolution: keras.layers.Layer, factors: np.ndarray) -> None:
    """Multiplies every filter of an ordinary or depthwise convolution by its factor, `[filters]`."""
    kernel = convolution.weights[0].numpy()
    # A depthwise kernel is [h, w, channels, 1], an ordinary one [h, w, in, out].
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    convolution.weights[0].assign(kernel * (factors[:, None] if is_depthwise else factors))
