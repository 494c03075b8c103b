"""Writes TFLite files of built-in ops, with decoding and non-maximum suppression inside, for images of fixed sizes."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.python.framework import convert_to_constants

from keras_retinaface import atomic
from keras_retinaface import config as config_lib
from keras_retinaface.export import byte_input, channel_ranges, int8, saved_model
from keras_retinaface.export import float_layers as float_layers_lib
from keras_retinaface.formats import tflite_file
from keras_retinaface.inference import view as view_lib
from keras_retinaface.layers import deform_conv
from keras_retinaface.network import decoding

QUANTIZATIONS = ("none", "float16", "int8")
# (height, width) of signatures that have a name of their own; others are called like `s320x240`, width first.
SIGNATURES = {(480, 640): "vga", (720, 1280): "hd", (1080, 1920): "full_hd"}
# Layers that int8 leaves in float32: of the heads the scores, because 256 places make equals of faces.
FLOAT_LAYERS = ("subtract_mean", *float_layers_lib.FIRST_MAPS, "class_*")
_LICENCE = "Apache-2.0"


def write(
    model,
    path: str | os.PathLike,
    detection: config_lib.Detection,
    *,
    image_size: tuple[int, int] | Sequence[tuple[int, int]],
    quantize: str = "none",
    calibration_images: Iterable[np.ndarray] = (),
    float_layers: Sequence[str] | None = None,
    licence: str = _LICENCE,
) -> None:
    """Writes a TFLite file of built-in ops for images of fixed size; it replaces `path` whole or not at all.

    Args:
        model: a RetinaFace.
        path: path of the file.
        detection: thresholds and limits, fixed in the export.
        image_size: (height, width) of the input, pixels, which the signature `serving_default` takes; or several, each
            with a signature of its own name (see `signature_name`), which share their weights.
        quantize: one of `QUANTIZATIONS`: what weights (float16) or weights and activations (int8) are stored as.
        calibration_images: photos for int8, uint8 `[H, W, 3]`, RGB, of any size, with faces like those to be found.
        float_layers: names or patterns of convolutions that stay in float32 in an int8 file; None is those of
            `FLOAT_LAYERS` that the network has.
        licence: licence of the weights, told in the file's metadata.

    Raises:
        ValueError: if `quantize` is unknown, or is int8 without images to calibrate on, or a layer is not there.
    """
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"`quantize` must be one of {QUANTIZATIONS}. Received: quantize={quantize!r}")
    photos = list(calibration_images)
    if quantize == "int8" and not photos:
        raise ValueError("`calibration_images` must name at least one image when `quantize` is int8")
    floats: set[str] = set()
    if quantize == "int8":
        floats = float_layers_lib.choose([layer.name for layer in model.layers], float_layers, FLOAT_LAYERS)
    sizes = [tuple(image_size)] if isinstance(image_size[0], int) else list(dict.fromkeys(map(tuple, image_size)))
    names = ["serving_default"] if len(sizes) == 1 else [signature_name(size) for size in sizes]
    samples = [[view_lib.letterbox(image, size)[0][None] for image in photos] for size in sizes]
    if quantize == "int8":
        # Once for all sizes: otherwise each would have weights of its own.
        model = channel_ranges.equalize(model, [image for images in samples for image in images])
    contents = {
        name: _convert(model, detection, size, quantize, images, floats)
        for name, size, images in zip(names, sizes, samples)
    }
    content = tflite_file.merge(contents, _metadata(detection, dict(zip(names, sizes)), quantize, licence))
    path = pathlib.Path(path)
    with atomic.file(path) as partial:
        partial.write_bytes(content)
    logging.info("wrote %s: %.2f MB, signatures %s", path, len(content) / 1e6, dict(zip(names, sizes)))


def signature_name(image_size: tuple[int, int]) -> str:
    """Returns what the signature of a size is called where a file has several: `vga`, `hd`, `full_hd`, `s320x240`."""
    height, width = image_size
    return SIGNATURES.get((height, width), f"s{width}x{height}")


def _convert(model, detection, image_size, quantize, samples, float_layers) -> bytes:
    """Converts the detector of one size, with one signature; `samples` are images of that size to calibrate on."""
    with deform_conv.only_gathers(model):
        network = byte_input.fold_mean(model, image_size)
        serve = freeze(decoding.make_function(model, detection, batch_size=1, image_size=image_size, network=network))
    with tempfile.TemporaryDirectory() as folder:
        # Only a converter that starts from a SavedModel keeps the names of inputs and outputs.
        signatures = {"serving_default": serve}
        tf.saved_model.save(tf.Module(), folder, signatures=signatures, options=saved_model.SAVE_OPTIONS)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize == "int8":
            layers = [layer.name for layer in model.layers]
            return int8.int8(converter, lambda: ({"image": sample} for sample in samples), layers, float_layers)
        if quantize == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def _metadata(detection, sizes: dict, quantize: str, licence: str) -> dict:
    count = detection.max_faces
    return {
        "name": "RetinaFace",
        "labels": ["face"],
        "landmarks": ["left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner"],
        "licence": licence,
        "quantization": quantize,
        "score_threshold": detection.score_threshold,
        "iou_threshold": detection.iou_threshold,
        "max_faces": count,
        "voting_iou": detection.voting_iou,
        "signatures": {name: {"height": height, "width": width} for name, (height, width) in sizes.items()},
        "inputs": {"image": "uint8 [1, height, width, 3], RGB"},
        "outputs": {
            "boxes": f"float32 [1, {count}, 4], x1 y1 x2 y2 in pixels of the input",
            "scores": f"float32 [1, {count}], best first",
            "landmarks": f"float32 [1, {count}, 5, 2], x y in pixels of the input, left of the image first",
            "count": "int32 [1], rows that hold a face; the others are zero",
        },
    }


def freeze(function):
    """Turns variables into constants: TensorFlow 2.21 cannot calibrate a graph that reads variables.

    Args:
        function: a `tf.function` from `image`, uint8, to a dict of tensors.
    """
    concrete = function.get_concrete_function()
    names = sorted(concrete.structured_outputs)  # the order in which tf.nest flattens a dict
    frozen = convert_to_constants.convert_variables_to_constants_v2(concrete)

    @tf.function(input_signature=[tf.TensorSpec(concrete.inputs[0].shape, tf.uint8, name="image")])
    def serve(image):
        return dict(zip(names, frozen(image)))

    return serve
