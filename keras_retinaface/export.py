"""Writes SavedModel and TFLite files with decoding and non-maximum suppression inside, and measures their parity."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.python.framework import convert_to_constants

from keras_retinaface import config as config_lib
from keras_retinaface import detector, runtime, serving
from keras_retinaface.layers import deform_conv

QUANTIZATIONS = ("none", "float16", "int8")
# Ops that int8 leaves alone. One scale for pixels and size ratios of all anchors leaves 256 places for a box: quantised
# decoding finds hundreds of faces that are not there and none that is.
_FLOAT_OPS = (
    *("ADD", "CAST", "CONCATENATION", "DIV", "EXP", "GATHER", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "PACK", "PAD"),
    *("RESHAPE", "SELECT_V2", "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TOPK_V2", "TRANSPOSE"),
)
# What is exported is not trained any more, and tracing the gradients of deformable convolutions takes minutes.
_SAVE_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def saved_model(model, path: str | os.PathLike, detection: config_lib.Detection) -> None:
    """Writes a SavedModel that takes any batch, height and width; it replaces `path` whole or not at all.

    Args:
        model: a RetinaFace.
        path: of the directory.
        detection: thresholds and limits, fixed in the export.

    Signatures: `serving_default` takes `image` uint8 `[B, H, W, 3]`, RGB; `serve_jpeg` takes `image_bytes` string
    `[B]`. Both give what `detections.decode` gives.
    """
    serve = serving.make(model, detection, batch_size=None)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve_jpeg(image_bytes):
        return serve(_decode_padded(image_bytes))

    with _directory(path) as partial:
        _save(model, partial, {"serving_default": serve, "serve_jpeg": serve_jpeg})


def tflite(
    model,
    path: str | os.PathLike,
    detection: config_lib.Detection,
    *,
    image_size: tuple[int, int],
    quantize: str = "none",
    calibration_images: Iterable[np.ndarray] = (),
) -> None:
    """Writes a TFLite file of built-in ops for one image of fixed size; it replaces `path` whole or not at all.

    Args:
        model: a RetinaFace.
        path: of the file.
        detection: thresholds and limits, fixed in the export.
        image_size: (height, width) of the input, pixels.
        quantize: one of `QUANTIZATIONS`: what weights (float16) or weights and activations (int8) are stored as.
        calibration_images: for int8: uint8 `[H, W, 3]`, RGB, of any size; photos with faces like those to be found.

    Raises:
        ValueError: if `quantize` is unknown, or is int8 without images to calibrate on.
    """
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"`quantize` must be one of {QUANTIZATIONS}. Received: quantize={quantize!r}")
    samples = [detector.letterbox(image, image_size)[0][None] for image in calibration_images]
    if quantize == "int8" and not samples:
        raise ValueError("`calibration_images` must name at least one image when `quantize` is int8")
    with deform_conv.only_gathers(model):
        serve = _freeze(serving.make(model, detection, batch_size=1, image_size=tuple(image_size)))
    with tempfile.TemporaryDirectory() as folder:
        # Only a converter that starts from a SavedModel keeps the names of inputs and outputs.
        tf.saved_model.save(tf.Module(), folder, signatures={"serving_default": serve}, options=_SAVE_OPTIONS)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        content = _convert_int8(converter, samples) if quantize == "int8" else converter.convert()
    path = pathlib.Path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    logging.info("wrote %s: %.2f MB, input %d x %d", path, len(content) / 1e6, *image_size)


def _convert_int8(converter, samples: Sequence[np.ndarray]) -> bytes:
    """Quantises weights and activations of convolutions; decoding and suppression stay in float32."""

    def feed():
        return ({"image": sample} for sample in samples)

    converter.representative_dataset = feed
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_FLOAT_OPS))
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=feed, debug_options=options)
    return debugger.get_nondebug_quantized_model()


def parity(model, path: str | os.PathLike, detection: config_lib.Detection, images: Sequence[np.ndarray]) -> dict:
    """Runs an exported model beside the Keras model on the same pixels and returns the largest differences.

    Args:
        model: the RetinaFace that was exported.
        path: of the SavedModel or `.tflite` file.
        detection: what it was exported with.
        images: uint8 `[H, W, 3]`, RGB; fitted into the export's size where that is fixed.

    Returns:
        `images`; `faces` and `faces_exported`, how many faces each found; `unmatched`, faces of either without a
        partner in the other (overlap under one half); `box` and `landmark`, pixels, and `score`: the largest
        differences over the partners.
    """
    exported = runtime.open_model(str(path), detection)
    reference = runtime.KerasRuntime(model, detection)
    report = {"images": len(images), "faces": 0, "faces_exported": 0, "unmatched": 0}
    report.update(box=0.0, landmark=0.0, score=0.0)
    for image in images:
        if exported.image_size is not None:
            image = detector.letterbox(image, exported.image_size)[0]
        _compare(*(_first(run.run(image[None])) for run in (reference, exported)), report)
    return report


def _first(outputs: dict) -> dict:
    count = int(outputs["count"][0])
    return {name: np.asarray(outputs[name][0][:count]) for name in ("boxes", "scores", "landmarks")}


def _compare(ours: dict, theirs: dict, report: dict) -> None:
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
            difference = float(np.max(np.abs(ours[key][index] - theirs[key][best])))
            report[name] = max(report[name], difference)
    report["unmatched"] += len(free)


def _iou(box: np.ndarray, other: np.ndarray) -> float:
    size = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0.0)
    union = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - np.prod(size)
    return float(np.prod(size) / union) if union > 0 else 0.0


def _decode_padded(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG or PNG files and pads them at right and bottom to one size: string `[B]` -> uint8 `[B, H, W, 3]`."""

    def decode(content):
        # Reads PNG too. TensorFlow's default is a faster, coarser transform than other readers use.
        image = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.RaggedTensor.from_tensor(image, ragged_rank=2)

    spec = tf.RaggedTensorSpec([None, None, 3], tf.uint8, ragged_rank=2)
    return tf.map_fn(decode, image_bytes, fn_output_signature=spec).to_tensor()


def _freeze(function):
    """Turns variables into constants: TensorFlow 2.21 cannot calibrate a graph that reads variables."""
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
    tf.saved_model.save(module, str(path), signatures=functions, options=_SAVE_OPTIONS)


@contextlib.contextmanager
def _directory(path: str | os.PathLike):
    """Yields a folder beside `path` that takes its place on success and vanishes on an error."""
    path = pathlib.Path(path)
    partial = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield partial
        partial.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
