"""Lets a network take pixels as they are: the mean that its first layer takes away goes into the first convolution.

Subtracting it reads and writes the whole image as floats once more; padding bytes instead costs a quarter of that.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_retinaface.layers import backbone, layer_name


def fold_mean(model, image_size: tuple[int, int]) -> Callable:
    """Makes a function of one uint8 image that computes what a model does, up to rounding.

    Where the means are whole numbers, the image is padded with them instead of with zeros after their subtraction, and
    what they add to each filter becomes a bias. A model with other means is called as it is.

    Args:
        model: a RetinaFace.
        image_size: (height, width), pixels.

    Returns:
        From uint8 `[1, height, width, 3]`, RGB, to the model's outputs, without those of a dense head.
    """
    network = model.without_dense_head()
    mean = np.array(model.get_layer("subtract_mean").mean, np.float32)
    name = backbone.stem(model.config.network.backbone)
    is_padded = layer_name.padding_of(name) in {layer.name for layer in model.layers}  # at both ends
    if not is_padded or not np.array_equal(mean, np.round(mean)):
        return lambda image: network(tf.cast(image, tf.float32), training=False)
    stem = model.get_layer(name)
    behind = keras.Model(stem.output, network.output)
    kernel = stem.kernel.numpy()
    bias = -np.einsum("hwco,c->o", kernel, mean)

    def call(image):
        with tf.name_scope(name):
            maps = (
                tf.nn.conv2d(
                    tf.cast(_pad(image, mean, image_size, kernel.shape[0] // 2), tf.float32), kernel, 2, "VALID"
                )
                + bias
            )
        return behind(maps, training=False)

    return call


def _pad(image, colour: np.ndarray, image_size: tuple[int, int], half: int):
    """Pads as a convolution of stride 2 wants it: half its side before, behind as many, one less of an even side."""
    for axis, side in enumerate(image_size, start=1):
        shape = [1, *image.shape[1:3], 3]
        edges = []
        for count in (half, half - (side % 2 == 0)):
            shape[axis] = count
            edges.append(tf.constant(np.broadcast_to(colour, shape), image.dtype))
        image = tf.concat([edges[0], image] + edges[1:] * (edges[1].shape[axis] > 0), axis)
    return image
