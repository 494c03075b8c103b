"""Writes ONNX files with decoding and non-maximum suppression inside, of standard operators alone."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx as onnx_lib
from absl import logging
from onnx import TensorProto, helper

from keras_retinaface import atomic
from keras_retinaface import config as config_lib
from keras_retinaface.export import channel_ranges, onnx_decoding, onnx_graph, onnx_int8, onnx_layers
from keras_retinaface.export import float_layers as float_layers_lib
from keras_retinaface.formats import onnx_file
from keras_retinaface.inference import view as view_lib

QUANTIZATIONS = ("none", "float16", "int8")
# Layers that int8 leaves in float32, beside the heads, which always are.
FLOAT_LAYERS = float_layers_lib.FIRST_MAPS
# That photos are fitted into for calibration where the file takes any.
_CALIBRATION_SIZE = (480, 640)
# Of 2022: newer versions have nothing that is needed here, and older runtimes refuse them.
_OPSET, _IR_VERSION = 17, 8
_LICENCE = "Apache-2.0"


def write(
    model,
    path: str | os.PathLike,
    detection: config_lib.Detection,
    *,
    image_size: tuple[int, int] | None = None,
    quantize: str = "none",
    calibration_images: Iterable[np.ndarray] = (),
    float_layers: Sequence[str] | None = None,
    licence: str = _LICENCE,
    source: str = "",
) -> None:
    """Writes an ONNX file that takes any batch; it replaces `path` whole or not at all.

    Args:
        model: a RetinaFace.
        path: path of the file.
        detection: thresholds and limits, fixed in the export.
        image_size: fixed (height, width) of the input in pixels, or None for any.
        quantize: one of `QUANTIZATIONS`: float16 halves the file, runtimes compute in float32 as before; int8 also
            computes in int8, but for heads and decoding.
        calibration_images: photos for int8, uint8 `[H, W, 3]`, RGB, of any size, with faces like those to be found.
        float_layers: names or patterns of layers that stay in float32 in an int8 file; None is those of `FLOAT_LAYERS`
            that the network has.
        licence: licence of the weights, told in the file's metadata.
        source: what the model is called, told there too.

    Raises:
        ValueError: if `quantize` is unknown, or is int8 without images to calibrate on, a layer is of a kind that ONNX
            export does not know or is not there, or a weight is not finite or too large for float16.
    """
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"`quantize` of ONNX must be one of {QUANTIZATIONS}. Received: quantize={quantize!r}")
    photos = list(calibration_images)
    if quantize == "int8":
        if not photos:
            raise ValueError("`calibration_images` must name at least one image when `quantize` is int8")
        layers = [layer.name for layer in model.layers]
        floats = float_layers_lib.choose(layers, float_layers, FLOAT_LAYERS)
        photos = [view_lib.letterbox(photo, image_size or _CALIBRATION_SIZE)[0][None] for photo in photos]
        model = channel_ranges.equalize(model, photos)
    graph = onnx_graph.Graph(np.float16 if quantize == "float16" else np.float32)
    said = {
        **{name: getattr(detection, name) for name in ("score_threshold", "iou_threshold", "max_faces", "voting_iou")},
        **{"quantization": quantize, "licence": licence, "model": source},
    }
    limits, rows = onnx_decoding.fixed(graph, detection), detection.max_faces
    made = _build(graph, model, detection, limits, {}, image_size or ("height", "width"), rows, said)
    if quantize == "int8":
        made = onnx_int8.quantize(made, photos, set(layers) - floats)
    _write(path, made)


def light(model, path: str | os.PathLike, *, licence: str, source: str) -> None:
    """Writes the form that `Detector` runs a preset by without TensorFlow: its thresholds come with each call.

    They are inputs of default values (`config.Detection`), called like its fields.

    Args:
        model: a RetinaFace.
        path: path of the file.
        licence: licence of the weights.
        source: name of the preset.
    """
    graph, detection = onnx_graph.Graph(), config_lib.Detection()
    defaults = {
        name: np.array([getattr(detection, name)], np.float32)
        for name in ("score_threshold", "iou_threshold", "voting_iou")
    }
    defaults["max_faces"] = np.array([detection.max_faces], np.int64)
    limits, said = onnx_decoding.asked(graph), {"quantization": "none", "licence": licence, "model": source}
    _write(path, _build(graph, model, detection, limits, defaults, ("height", "width"), "faces", said))


def _build(graph, model, detection, limits, defaults: Mapping, sides: tuple, rows: int | str, said: Mapping):
    """Returns the whole graph, an `onnx.ModelProto`; `defaults` are the inputs beside the image."""
    outputs = onnx_layers.write(graph, model, "image")
    anchors = model.config.anchors
    onnx_decoding.write(graph, outputs, "image", anchors, limits, max_candidates=detection.max_candidates)
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *sides, 3])]
    inputs += [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in defaults.items()
    ]
    shapes = {"boxes": (rows, 4), "scores": (rows,), "landmarks": (rows, 5, 2), "count": ()}
    results = [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if name == "count" else TensorProto.FLOAT, ["batch", *shape]
        )
        for name, shape in shapes.items()
    ]
    constants = graph.initializers() + [onnx_lib.numpy_helper.from_array(v, name) for name, v in defaults.items()]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "RetinaFace", inputs, results, constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="keras_retinaface",
    )
    mean = model.get_layer("subtract_mean").mean
    helper.set_model_props(made, {name: _text(value) for name, value in {**_SAID, "mean": mean, **said}.items()})
    onnx_lib.checker.check_model(made, full_check=True)
    return made


_SAID = {
    "name": onnx_file.NAME,
    "labels": ["face"],
    "landmarks": ["left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner"],
    "input": "image: uint8 [batch, height, width, 3], RGB; the mean is taken away inside",
    "output": "boxes x1 y1 x2 y2 and landmarks x y in pixels of the input, best first; rows past count are zero",
}


def _text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write(path, made) -> None:
    path, content = pathlib.Path(path), onnx_file.seal(made.SerializeToString(deterministic=True))
    with atomic.file(path) as partial:
        partial.write_bytes(content)
    logging.info("wrote %s: %.2f MB", path, len(content) / 1e6)
