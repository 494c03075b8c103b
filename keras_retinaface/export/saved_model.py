"""Writes SavedModels for any batch, height and width, which take pixels or files, with decoding inside."""

from __future__ import annotations

import os

import tensorflow as tf

from keras_retinaface import atomic
from keras_retinaface import config as config_lib
from keras_retinaface.export import encoded_input
from keras_retinaface.inference import saved_model_file
from keras_retinaface.network import decoding

# What is exported is not trained any more, and tracing the gradients of deformable convolutions takes minutes.
SAVE_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def write(
    model,
    path: str | os.PathLike,
    detection: config_lib.Detection,
    *,
    max_pixels: int | None = None,
) -> None:
    """Writes a SavedModel that takes any batch, height and width; it replaces `path` whole or not at all.

    Args:
        model: a RetinaFace.
        path: path of the directory.
        detection: thresholds and limits, fixed in the export.
        max_pixels: height times width of the largest file that `serve_jpeg` decodes; None goes by the size of each
            file, as `image_file.read`.

    Signatures: `serving_default` takes `image` uint8 `[B, H, W, 3]`, RGB; `serve_jpeg` takes `image_bytes` string
    `[B]`, JPEG or PNG files of any mix of sizes, turns them upright (EXIF, as `Detector` does) and pads them to the
    largest. Both give what `decoding.decode` gives, in each upright image's own pixels; `serve_jpeg` also `is_broken`
    bool `[B]`, for files that could not be read, or are too large, and have no faces.

    Raises:
        ValueError: if `max_pixels` is not positive.
    """
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"`max_pixels` must be 1 or more. Received: max_pixels={max_pixels}")
    serve = decoding.make_function(model, detection, batch_size=None)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve_jpeg(image_bytes):
        images, is_broken = encoded_input.decode_padded(image_bytes, max_pixels)
        outputs = serve(images)
        # A blank image has no face; but that is what a network says, and this is what callers count on.
        outputs = {name: tf.where(_like(is_broken, rows), tf.zeros_like(rows), rows) for name, rows in outputs.items()}
        return {**outputs, "is_broken": is_broken}

    with atomic.folder(path) as partial:
        _save(partial, {"serving_default": serve, "serve_jpeg": serve_jpeg})
        saved_model_file.seal(partial)


def _like(flags: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Reshapes `[B]` so that it broadcasts against `[B, ...]`."""
    return tf.reshape(flags, [-1] + [1] * (rows.shape.rank - 1))


def _save(path: str | os.PathLike, signatures: dict) -> None:
    functions = {name: function.get_concrete_function() for name, function in signatures.items()}
    module = tf.Module()
    # What the signatures capture, and no layers: Keras 2 would trace each of them again, for classes that nobody loads.
    module.captured = [list(function.variables) for function in functions.values()]
    tf.saved_model.save(module, str(path), signatures=functions, options=SAVE_OPTIONS)
