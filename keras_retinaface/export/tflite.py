"""Writes SavedModel and TFLite files with decoding and non-maximum suppression inside, and measures their parity."""

from __future__ import annotations

import dataclasses
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
from keras_retinaface.export import byte_input, channel_ranges, int8
from keras_retinaface.formats import tflite_file
from keras_retinaface.geometry import encoded_image
from keras_retinaface.inference import detector, runtime, saved_model_file
from keras_retinaface.layers import deform_conv
from keras_retinaface.network import serving

QUANTIZATIONS = ("none", "float16", "int8")
# (height, width) of signatures that have a name of their own; others are called like `s320x240`, width first.
SIGNATURES = {(480, 640): "vga", (720, 1280): "hd", (1080, 1920): "full_hd"}
# Layers that int8 leaves in float32. The first maps of the MobileNets are large and have few channels: there int8 gains
# no time, and there much of its error is made. Of the heads the scores, because 256 places make equals of faces.
FLOAT_LAYERS = ("subtract_mean", "stage1_0*", "stage1_1*", "stage1_2*", "class_*")
_LICENCE = "Apache-2.0"
# What is exported is not trained any more, and tracing the gradients of deformable convolutions takes minutes.
SAVE_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def saved_model(
    model,
    path: str | os.PathLike,
    detection: config_lib.Detection,
    *,
    max_pixels: int = encoded_image.MAX_PIXELS,
) -> None:
    """Writes a SavedModel that takes any batch, height and width; it replaces `path` whole or not at all.

    Args:
        model: a RetinaFace.
        path: of the directory.
        detection: thresholds and limits, fixed in the export.
        max_pixels: height times width of the largest file that `serve_jpeg` decodes.

    Signatures: `serving_default` takes `image` uint8 `[B, H, W, 3]`, RGB; `serve_jpeg` takes `image_bytes` string
    `[B]`, JPEG or PNG files of any mix of sizes, turns them upright (EXIF, as `Detector` does) and pads them to the
    largest. Both give what `decoding.decode` gives, in each upright image's own pixels; `serve_jpeg` also `is_broken`
    bool `[B]`, for files that could not be read, or are too large, and have no faces.

    Raises:
        ValueError: if `max_pixels` is not positive.
    """
    if max_pixels < 1:
        raise ValueError(f"`max_pixels` must be 1 or more. Received: max_pixels={max_pixels}")
    serve = serving.make(model, detection, batch_size=None)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve_jpeg(image_bytes):
        images, is_broken = serving.decode_padded(image_bytes, max_pixels)
        outputs = serve(images)
        # A blank image has no face; but that is what a network says, and this is what callers count on.
        outputs = {name: tf.where(_like(is_broken, rows), tf.zeros_like(rows), rows) for name, rows in outputs.items()}
        return {**outputs, "is_broken": is_broken}

    with atomic.folder(path) as partial:
        _save(model, partial, {"serving_default": serve, "serve_jpeg": serve_jpeg})
        saved_model_file.seal(partial)


def tflite(
    model,
    path: str | os.PathLike,
    detection: config_lib.Detection,
    *,
    image_size: tuple[int, int] | Sequence[tuple[int, int]],
    quantize: str = "none",
    calibration_images: Iterable[np.ndarray] = (),
    float_layers: Sequence[str] = FLOAT_LAYERS,
    licence: str = _LICENCE,
) -> None:
    """Writes a TFLite file of built-in ops for images of fixed size; it replaces `path` whole or not at all.

    Args:
        model: a RetinaFace.
        path: of the file.
        detection: thresholds and limits, fixed in the export.
        image_size: (height, width) of the input, pixels, which the signature `serving_default` takes; or several, each
            with a signature of its own name (see `signature_name`), which share their weights.
        quantize: one of `QUANTIZATIONS`: what weights (float16) or weights and activations (int8) are stored as.
        calibration_images: for int8: uint8 `[H, W, 3]`, RGB, of any size; photos with faces like those to be found.
        float_layers: for int8: names of convolutions that stay in float32.
        licence: of the weights, told in the file's metadata.

    Raises:
        ValueError: if `quantize` is unknown, or is int8 without images to calibrate on, or a layer is not there.
    """
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"`quantize` must be one of {QUANTIZATIONS}. Received: quantize={quantize!r}")
    photos = list(calibration_images)
    if quantize == "int8" and not photos:
        raise ValueError("`calibration_images` must name at least one image when `quantize` is int8")
    sizes = [tuple(image_size)] if isinstance(image_size[0], int) else list(dict.fromkeys(map(tuple, image_size)))
    names = ["serving_default"] if len(sizes) == 1 else [signature_name(size) for size in sizes]
    samples = [[detector.letterbox(image, size)[0][None] for image in photos] for size in sizes]
    if quantize == "int8":
        # Once for all sizes: otherwise each would have weights of its own.
        model = channel_ranges.equalize(model, [image for images in samples for image in images])
    contents = {
        name: _convert(model, detection, size, quantize, images, float_layers)
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
        serve = freeze(serving.make(model, detection, batch_size=1, image_size=image_size, network=network))
    with tempfile.TemporaryDirectory() as folder:
        # Only a converter that starts from a SavedModel keeps the names of inputs and outputs.
        tf.saved_model.save(tf.Module(), folder, signatures={"serving_default": serve}, options=SAVE_OPTIONS)
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


def parity(model, path: str | os.PathLike, detection: config_lib.Detection, images: Sequence[np.ndarray]) -> dict:
    """Runs an exported model beside the Keras model on the same pixels and returns the largest differences.

    Args:
        model: the RetinaFace that was exported.
        path: of the SavedModel or `.tflite` file.
        detection: what it was exported with.
        images: uint8 `[H, W, 3]`, RGB; fitted into every one of the export's sizes where those are fixed.

    Returns:
        `images`; `faces` and `faces_exported`, how many faces each found; `unmatched`, faces of either without a
        partner in the other (overlap under one half); `box` and `landmark`, pixels, and `score`: the largest
        differences over the partners; `box_mean` and so on: the mean over faces of a face's largest difference.
    """
    exported = runtime.open_model(str(path), dataclasses.replace(detection, voting_iou=0.0))  # the export votes itself
    reference = runtime.KerasRuntime(model, detection)
    report = {"images": len(images), "faces": 0, "faces_exported": 0, "unmatched": 0}
    differences = {"box": [], "landmark": [], "score": []}
    for image in images:
        for size in exported.image_sizes or [None]:
            fitted = image if size is None else detector.letterbox(image, size)[0]
            _compare(*(_first(run.run(fitted[None])) for run in (reference, exported)), report, differences)
    for name, values in differences.items():
        report[name], report[f"{name}_mean"] = float(max(values, default=0.0)), float(np.mean(values or [0.0]))
    return report


def _first(outputs: dict) -> dict:
    count = int(outputs["count"][0])
    return {name: np.asarray(outputs[name][0][:count]) for name in ("boxes", "scores", "landmarks")}


def _compare(ours: dict, theirs: dict, report: dict, differences: dict) -> None:
    report["faces"] += len(ours["boxes"])
    report["faces_exported"] += len(theirs["boxes"])
    free = set(range(len(theirs["boxes"])))
    for index, box in enumerate(ours["boxes"]):
        overlaps = {other: _iou(box, theirs["boxes"][other]) for other in free}
        best = max(overlaps, key=overlaps.get, default=None)
        if best is None or overlaps[best] < 0.5:
            report["unmatched"] += 1
            continue
        free.discard(best)
        for name, key in (("box", "boxes"), ("landmark", "landmarks"), ("score", "scores")):
            differences[name].append(float(np.max(np.abs(ours[key][index] - theirs[key][best]))))
    report["unmatched"] += len(free)


def _iou(box: np.ndarray, other: np.ndarray) -> float:
    size = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0.0)
    union = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - np.prod(size)
    return float(np.prod(size) / union) if union > 0 else 0.0


def _like(flags: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Reshapes `[B]` so that it broadcasts against `[B, ...]`."""
    return tf.reshape(flags, [-1] + [1] * (rows.shape.rank - 1))


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


def _save(model, path: str | os.PathLike, signatures: dict) -> None:
    module = tf.Module()
    module.model = model.detector()  # keeps the variables that the signatures capture
    functions = {name: function.get_concrete_function() for name, function in signatures.items()}
    tf.saved_model.save(module, str(path), signatures=functions, options=SAVE_OPTIONS)
