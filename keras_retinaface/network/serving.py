"""The one function that every detector runs: uint8 images in, faces out; Keras, SavedModel and TFLite share it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.network import decoding


def make(
    model,
    detection: config_lib.Detection,
    batch_size: int | None,
    image_size: tuple | None = None,
    *,
    has_dense: bool = False,
    network: Callable | None = None,
):
    """Wraps a model and its decoding in a graph.

    Args:
        model: a `model.RetinaFace`.
        detection: thresholds and limits, constants of the graph.
        batch_size: fixed number of images, or None for any.
        image_size: fixed (height, width) in pixels, or None for any: one trace serves every size.
        has_dense: whether the dense head runs too, which nothing but meshes needs.
        network: what computes the model's outputs from uint8 images instead of the model.

    Returns:
        A `tf.function` from `image` uint8 `[B, H, W, 3]`, RGB, to the dict that `decoding.decode` describes.
    """
    height, width = image_size or (None, None)
    called = model if has_dense else model.detector()

    @tf.function(input_signature=[tf.TensorSpec([batch_size, height, width, 3], tf.uint8, name="image")])
    def serve(image):
        outputs = network(image) if network else called(tf.cast(image, tf.float32), training=False)
        size = image_size or tf.shape(image)[1:3]
        return decoding.decode(outputs, size, model.config.anchors, detection)

    return serve
