"""Exports a detector with decoding and non-maximum suppression inside, and measures how far it is from the Keras model.

    python export_main.py --model=mobilenet025 --output=/tmp/export --tflite --saved_model
    python export_main.py --model=runs/mine --output=/tmp/export --tflite --image_size=720,1280 --quantize=float16
    python export_main.py --output=/tmp/export --tflite --image_size=480,640 --image_size=720,1280 --quantize=int8
    python export_main.py --output=/tmp/export --onnx

Writes OUTPUT/retinaface.tflite (one image of --image_size, or of several), OUTPUT/retinaface.onnx (any batch, any size
or that of --image_size) and OUTPUT/saved_model/ (any batch and size).
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from keras_retinaface import atomic, extras, output, stopping
from keras_retinaface import config as config_lib
from keras_retinaface.cli import detection_flags
from keras_retinaface.inference import runtime
from keras_retinaface.media import image_file
from keras_retinaface.weights import shipped

# A checkout has photos; an installed package has none, and asks.
_CHECKOUT_PHOTOS = pathlib.Path(__file__).resolve().parents[2] / "examples" / "photos"
_PHOTOS = str(_CHECKOUT_PHOTOS) if _CHECKOUT_PHOTOS.is_dir() else None

_MODEL = flags.DEFINE_string("model", "mobilenet025", "A preset, a workdir or a .keras file.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write into.", required=True)
_TFLITE = flags.DEFINE_bool("tflite", False, "Write retinaface.tflite.")
_ONNX = flags.DEFINE_bool("onnx", False, "Write retinaface.onnx.")
_SAVED_MODEL = flags.DEFINE_bool("saved_model", False, "Write saved_model/.")
_QUANTIZE = flags.DEFINE_enum(
    "quantize",
    "none",
    ["none", "float16", "int8"],
    "What the .tflite or .onnx stores weights as; int8 also computes in int8.",
)
_IMAGE_SIZE = flags.DEFINE_multi_string(
    "image_size",
    ["480,640"],
    "HEIGHT,WIDTH of the .tflite's input in pixels. Given more than once, the file has a signature for each, called "
    "vga, hd, full_hd or like s320x240, and one set of weights. The .onnx is for any size, and where one size is given "
    "for that.",
)
_FLOAT_LAYERS = flags.DEFINE_list(
    "float_layers",
    None,
    "Layers that int8 leaves in float32, by name or pattern; `none` is no layer. By default those that gain by it.",
)
_CALIBRATION_IMAGES = flags.DEFINE_string(
    "calibration_images", _PHOTOS, "Folder or glob of photos with faces that int8 is calibrated on."
)
_PARITY_IMAGES = flags.DEFINE_string(
    "parity_images", _PHOTOS, "Folder or glob of photos that exported and Keras model are compared on."
)
_SCORE_THRESHOLD = flags.DEFINE_float(
    "score_threshold", config_lib.Detection.score_threshold, "Detections under this score are dropped."
)
_IOU_THRESHOLD = flags.DEFINE_float(
    "iou_threshold", config_lib.Detection.iou_threshold, "Of two detections that overlap more, the better stays."
)
_VOTING_IOU = flags.DEFINE_float(
    "voting_iou",
    config_lib.Detection.voting_iou,
    "Average the boxes that overlap the best one of a face by this or more: 0.5 fits small faces better. 0: none.",
)
_MAX_FACES = flags.DEFINE_integer("max_faces", config_lib.Detection.max_faces, "Rows of the outputs.")
_JSON = flags.DEFINE_string("json", None, "File for the measured differences.")
_MAX_PIXELS = detection_flags.define_max_pixels("Photos here, and files that the SavedModel's `serve_jpeg` is given,")

# Heading, key of a parity report, format; the whole row stays under 120 characters.
_COLUMNS = (
    *(("images", "images", "d"), ("faces", "faces", "d"), ("exported", "faces_exported", "d")),
    *(("unmatched", "unmatched", "d"), ("box px", "box", ".3f"), ("points px", "landmark", ".3f")),
    *(("score", "score", ".5f"), ("MB", "megabytes", ".2f")),
)
# Largest differences in pixels and score of what finds the same faces, and means of what finds nearly the same.
_SAME, _CLOSE = (0.5, 1e-3), (1.0, 0.02)


def export_all() -> dict[str, dict]:
    """Writes what the flags ask for; returns the parity of each file."""
    from keras_retinaface.export import parity, saved_model, tflite

    detection = config_lib.Detection(
        _SCORE_THRESHOLD.value, _IOU_THRESHOLD.value, _MAX_FACES.value, voting_iou=_VOTING_IOU.value
    )
    sizes = [_parse_size(text) for text in _IMAGE_SIZE.value]
    model = runtime.load_keras(_MODEL.value)
    folder = pathlib.Path(_OUTPUT.value)
    photos = _read(_PARITY_IMAGES.value)
    if not photos:
        raise ValueError(f"--parity_images={_PARITY_IMAGES.value}: no images there")
    written = []
    if _SAVED_MODEL.value:
        saved_model.write(model, folder / "saved_model", detection, max_pixels=_MAX_PIXELS.value)
        written.append(folder / "saved_model")
    calibration = _read(_CALIBRATION_IMAGES.value) if _QUANTIZE.value == "int8" else []
    if _TFLITE.value:
        tflite.write(
            model,
            folder / "retinaface.tflite",
            detection,
            image_size=sizes,
            quantize=_QUANTIZE.value,
            calibration_images=calibration,
            float_layers=_float_layers(),
            licence=_licence(_MODEL.value),
        )
        written.append(folder / "retinaface.tflite")
    if _ONNX.value:
        _export_onnx(model, folder / "retinaface.onnx", detection, sizes, calibration)
        written.append(folder / "retinaface.onnx")
    reports = {}
    for path in written:
        reports[path.name] = {**parity.measure(model, path, detection, photos), "megabytes": _size(path) / 1e6}
    return reports


def _export_onnx(model, path: pathlib.Path, detection, sizes: list[tuple[int, int]], calibration: list) -> None:
    from keras_retinaface.export import onnx

    is_fixed = flags.FLAGS[_IMAGE_SIZE.name].present and len(sizes) == 1
    onnx.write(
        model,
        path,
        detection,
        image_size=sizes[0] if is_fixed else None,
        quantize=_QUANTIZE.value,
        calibration_images=calibration,
        float_layers=_float_layers(),
        licence=_licence(_MODEL.value),
        source=pathlib.Path(_MODEL.value).name,
    )


def _read(pattern: str) -> list[np.ndarray]:
    return [image_file.read(path, max_pixels=_MAX_PIXELS.value) for path in image_file.find(pattern)]


def _parse_size(text: str) -> tuple[int, int]:
    sides = text.split(",")
    if len(sides) != 2 or not all(side.strip().isdigit() and int(side) for side in sides):
        raise ValueError(f"--image_size must be HEIGHT,WIDTH. Received: {text}")
    return int(sides[0]), int(sides[1])


def _float_layers() -> Sequence[str] | None:
    return [] if _FLOAT_LAYERS.value == ["none"] else _FLOAT_LAYERS.value


def _licence(model: str) -> str:
    """Returns the licence of a preset's weights; of the user's own weights only they can tell."""
    return shipped.PRESETS[model].licence if model in shipped.PRESETS else "of the weights' owner"


def _size(path: pathlib.Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _print_table(reports: dict[str, dict]) -> None:
    print(f"{'file':18}" + "".join(f"{heading:>11}" for heading, _, _ in _COLUMNS) + "  verdict")
    for name, report in reports.items():
        cells = (_cell(report.get(key), kind) for _, key, kind in _COLUMNS)
        print(f"{name:18.18}" + "".join(f"{cell:>11}" for cell in cells) + f"  {verdict(report)}")
    print("box, points, score: largest difference to the Keras model on the same photos; --json has the means too")


def _cell(value, kind: str) -> str:
    return "-" if value is None else f"{value:{kind}}"


def verdict(report: dict) -> str:
    """Says in a word how far an export is from its model.

    Args:
        report: report from `export.parity`.

    Returns:
        `same`: every face, within half a pixel and a thousandth of score; `close`: faces differ in less than one of a
        hundred, and in the mean by less than a pixel; else `differs`.
    """
    is_whole = not report["unmatched"] and report["faces"] == report["faces_exported"]
    if is_whole and max(report["box"], report["landmark"]) <= _SAME[0] and report["score"] <= _SAME[1]:
        return "same"
    is_near = report["unmatched"] + abs(report["faces"] - report["faces_exported"]) <= 0.01 * report["faces"]
    means = max(report["box_mean"], report["landmark_mean"])
    return "close" if is_near and means <= _CLOSE[0] and report["score_mean"] <= _CLOSE[1] else "differs"


def _check_flags() -> None:
    """Makes sure that no flag that was given is without an effect."""
    is_file = _TFLITE.value or _ONNX.value
    detection_flags.check_used(is_file, "needs --tflite or --onnx", [_IMAGE_SIZE])
    detection_flags.check_used(is_file or _QUANTIZE.value == "none", "needs --tflite or --onnx", [_QUANTIZE])
    if _ONNX.value:
        extras.require("onnx", "--onnx")
        extras.require("onnxruntime", "--onnx")  # that measures it
    is_int8 = is_file and _QUANTIZE.value == "int8"
    wanted = "needs --tflite or --onnx, and --quantize=int8"
    detection_flags.check_used(is_int8, wanted, [_FLOAT_LAYERS, _CALIBRATION_IMAGES])


def _check_outputs() -> None:
    """Makes sure, before the model is loaded, that outputs can be written and replace nothing that is read."""
    folder = output.make_folder(_OUTPUT.value, _OUTPUT.name)
    is_int8 = _QUANTIZE.value == "int8"
    images = image_file.find(_PARITY_IMAGES.value) + (image_file.find(_CALIBRATION_IMAGES.value) if is_int8 else [])
    model = pathlib.Path(_MODEL.value)
    originals = output.Originals([*images, model / "model.keras" if model.is_dir() else model])
    if _JSON.value:
        output.check_file(_JSON.value, _JSON.name)
        originals.check(_JSON.value, _JSON.name)
    if _TFLITE.value:
        originals.check(folder / "retinaface.tflite", _OUTPUT.name)
    if _ONNX.value:
        originals.check(folder / "retinaface.onnx", _OUTPUT.name)
    if _SAVED_MODEL.value:
        originals.check_tree(folder / "saved_model", _OUTPUT.name)


def _run() -> int:
    _check_flags()
    _check_outputs()
    import tensorflow as tf

    try:
        reports = export_all()
    except tf.errors.OpError as error:  # so TensorFlow calls a full disk
        raise OSError(f"--output={_OUTPUT.value}: {(error.message or str(error)).splitlines()[0]}") from error
    try:
        if _JSON.value:
            with atomic.file(_JSON.value) as partial:
                partial.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    finally:  # a full disk does not cost the numbers
        _print_table(reports)
        sys.stdout.flush()
    return 0


def main(argv):
    """Exports, measures, prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if not (_TFLITE.value or _ONNX.value or _SAVED_MODEL.value):
        raise app.UsageError("give --tflite, --onnx or --saved_model, or several of them")
    for flag in (_PARITY_IMAGES, _CALIBRATION_IMAGES) if _QUANTIZE.value == "int8" else (_PARITY_IMAGES,):
        if not flag.value:
            raise app.UsageError(f"--{flag.name} must be given: a folder or glob of photos with faces")
    return stopping.run(_run)
