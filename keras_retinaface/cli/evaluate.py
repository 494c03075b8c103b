r"""Measures a model, or predictions from elsewhere, by the official protocols.

    python evaluate_main.py --model=mobilenet025 --images=WIDER_val/images --ground_truth=DIR --json=result.json
    python evaluate_main.py --predictions=DIR --ground_truth=DIR --curves=DIR
    python evaluate_main.py --model=retinaface.tflite --images=DIR --landmarks=label.txt
    python evaluate_main.py --model=mobilenet025 --images=originalPics --fddb=FDDB-folds --curves=DIR
    python evaluate_main.py --dense=AFLW2000 --meshes=predicted.npz
    python evaluate_main.py --mesh --model=mobilenet025_dense --images=WIDER_val/images --ground_truth=DIR \
        --partial --mesh_min_face=48
    python evaluate_main.py --mesh --model=mobilenet025_dense --images=DIR --landmarks=faces.xml

--ground_truth holds the official wider_{face,easy,medium,hard}_val.mat. Ctrl-C and start again: a run with
--predictions_out goes on where it stopped.
"""

from __future__ import annotations

import os
import pathlib
import sys

from absl import app, flags

from keras_retinaface import atomic, output, stopping
from keras_retinaface.cli import detection_flags
from keras_retinaface.evaluation import annotation, fddb, prediction, report, runner, wider_face

# Average precision wants the doubtful detections too; these are what the public numbers were measured with.
SCORE_THRESHOLD, MAX_FACES = 0.02, 750

_MODEL = detection_flags.define_model(None)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "Folder of EVENT/IMAGE.txt in the official format instead of a model; one file for --fddb."
)
_IMAGES = flags.DEFINE_string("images", None, "Folder of the data set's images.")
_GROUND_TRUTH = flags.DEFINE_string("ground_truth", None, "Folder of the official WIDER FACE ground truth.")
_LANDMARKS = flags.DEFINE_string(
    "landmarks",
    None,
    "Annotated points: RetinaFace label.txt, 300-W/dlib .xml, or .csv. Image paths start at --images.",
)
_FDDB = flags.DEFINE_string("fddb", None, "Folder of FDDB-fold-*-ellipseList.txt.")
_DENSE = flags.DEFINE_string("dense", None, "True meshes: folder of AFLW2000-3D, or .npz (see evaluation/aflw2000.py).")
_MESHES = flags.DEFINE_string("meshes", None, "Predicted meshes for --dense, .npz.")
_MESH = flags.DEFINE_bool(
    "mesh",
    False,
    "Measure meshes on the faces of --ground_truth and --landmarks instead: photometric error, 68 points.",
)
_MESH_MIN_FACE = flags.DEFINE_float(
    "mesh_min_face", 0.0, "Annotated faces whose shorter side is under this many pixels are left out of --mesh."
)
_PARTIAL = flags.DEFINE_bool(
    "partial", False, "Cut the ground truth to the images that --images (without it, --predictions) holds."
)
_COMPAT = flags.DEFINE_enum(
    "compat", "matlab", prediction.COMPATS, "Rules of the official code, or of its common Python port."
)
_JSON = flags.DEFINE_string("json", None, "File for the numbers; `-` is standard output.")
_CURVES = flags.DEFINE_string("curves", None, "Folder for curves as PNG and CSV.")
_PREDICTIONS_OUT = flags.DEFINE_string(
    "predictions_out", None, "Folder for the model's predictions; a run resumes there."
)
_MAX_PIXELS = detection_flags.define_max_pixels()
make_detector, detection_settings = detection_flags.define(score_threshold=SCORE_THRESHOLD, max_faces=MAX_FACES)


def predict(paths: list[str], numbers: dict) -> dict:
    """Returns the predictions for images, by path without extension, of the model or from files."""
    if _PREDICTIONS.value:
        names = [os.path.splitext(path)[0] for path in paths]
        predictions, missing = prediction.read(_PREDICTIONS.value, names, compat=_COMPAT.value)
        numbers["missing_predictions"] = len(missing)
        return predictions
    settings = {"model": runner.fingerprint(_MODEL.value), **detection_settings()}
    predictions, numbers["seconds_per_image"] = runner.detect(
        make_detector(_MODEL.value),
        _IMAGES.value,
        paths,
        output=_PREDICTIONS_OUT.value,
        settings=settings,
        max_pixels=_MAX_PIXELS.value,
    )
    return predictions


def present(paths: list[str], numbers: dict) -> list[str]:
    """Returns the images to look at, by the rules of --partial, and counts the others."""
    found = paths
    if _IMAGES.value:
        found = runner.find_images(_IMAGES.value, paths, is_partial=_PARTIAL.value)
    elif _PARTIAL.value:
        found = [path for path in paths if pathlib.Path(_PREDICTIONS.value, path).with_suffix(".txt").is_file()]
        if not found:
            raise FileNotFoundError(f"{_PREDICTIONS.value} holds no file of {len(paths)} images")
    if _PARTIAL.value:
        numbers["images_left_out"] = numbers.get("images_left_out", 0) + len(paths) - len(found)
    return found


def measure_meshes(ground_truth, annotations: list) -> dict:
    """Measures meshes on the faces of both."""
    from keras_retinaface.evaluation import mesh_fit

    if ground_truth is not None:
        annotations = mesh_fit.of_ground_truth(ground_truth) + annotations
    finder = make_detector(_MODEL.value, mesh=True)
    return mesh_fit.measure(
        finder, _IMAGES.value, annotations, min_face=_MESH_MIN_FACE.value, max_pixels=_MAX_PIXELS.value
    )


def evaluate() -> dict:
    """Measures what the flags name."""
    numbers, paths, ground_truth, annotations = {}, [], None, []
    if _GROUND_TRUTH.value:
        ground_truth = wider_face.load_ground_truth(_GROUND_TRUTH.value)
        wider_paths = present([f"{name}.jpg" for name in ground_truth.names], numbers)
        ground_truth = ground_truth.select([os.path.splitext(path)[0] for path in wider_paths])
        paths += wider_paths
    if _LANDMARKS.value:
        annotations = annotation.read(_LANDMARKS.value)
        if not annotations:
            raise ValueError(f"{_LANDMARKS.value}: expected at least one annotated image. Received: none")
        there = set(present([image.image for image in annotations], numbers))
        annotations = [image for image in annotations if image.image in there]
        paths += [image.image for image in annotations]
    if _FDDB.value:
        faces = fddb.read_ellipses(_FDDB.value)
        there = set(present([f"{name}.jpg" for name in faces], numbers))
        faces = {name: ellipses for name, ellipses in faces.items() if f"{name}.jpg" in there}
        paths += [f"{name}.jpg" for name in faces]
    _check_originals(list(dict.fromkeys(paths)))
    if not (_GROUND_TRUTH.value or _LANDMARKS.value or _FDDB.value):
        return report.of_dense(_MESHES.value, _DENSE.value)
    if _MESH.value:
        return {**measure_meshes(ground_truth, annotations), "partial": _PARTIAL.value, **numbers}
    is_file = bool(_PREDICTIONS.value) and os.path.isfile(_PREDICTIONS.value)
    predictions = fddb.read_detections(_PREDICTIONS.value) if is_file else predict(list(dict.fromkeys(paths)), numbers)

    result, curves = {}, _CURVES.value
    if _GROUND_TRUTH.value:
        result.update(report.of_wider_face(predictions, ground_truth, compat=_COMPAT.value, curves=curves))
    if _LANDMARKS.value:
        result.update(report.of_landmarks(predictions, annotations, curves=curves))
    if _FDDB.value:
        result.update(report.of_fddb(predictions, faces, _IMAGES.value, curves=curves))
    if _DENSE.value:
        result.update(report.of_dense(_MESHES.value, _DENSE.value))
    return {**result, "partial": _PARTIAL.value, **numbers}


def _check_flags() -> None:
    """Makes sure that no flag that was given is without an effect."""
    check = detection_flags.check_used
    by_images = bool(_GROUND_TRUTH.value or _LANDMARKS.value or _FDDB.value)
    check(by_images, "needs --ground_truth, --landmarks or --fddb", (_MODEL, _PREDICTIONS, _IMAGES, _PARTIAL, _CURVES))
    check(bool(_MODEL.value), "needs --model", (_PREDICTIONS_OUT, "num_threads", *detection_settings()))
    not_of_meshes = (_PREDICTIONS_OUT, _COMPAT, _CURVES, _FDDB, _DENSE, _MESHES)
    check(not _MESH.value, "must stand without --mesh", not_of_meshes)
    check(_MESH.value, "needs --mesh", [_MESH_MIN_FACE])
    # Of predictions from elsewhere it says how their files are read, too.
    check(bool(_GROUND_TRUTH.value or _PREDICTIONS.value), "needs --ground_truth or --predictions", [_COMPAT])


def _check_places() -> None:
    """Makes sure, before anything is read, that what will be written can be."""
    if _JSON.value and _JSON.value != "-":
        output.check_file(_JSON.value, _JSON.name)
    for flag in (_CURVES, _PREDICTIONS_OUT):
        if flag.value:
            output.make_folder(flag.value, flag.name)


def _check_originals(paths: list[str]) -> None:
    """Makes sure that nothing that is read is written over."""
    read = (_GROUND_TRUTH, _PREDICTIONS, _LANDMARKS, _FDDB, _DENSE, _MESHES, _MODEL)
    images = [os.path.join(_IMAGES.value, path) for path in paths] if _IMAGES.value else []
    originals = output.Originals([*images, *(flag.value for flag in read if flag.value)])
    if _JSON.value and _JSON.value != "-":
        originals.check(_JSON.value, _JSON.name)
    for name in report.CURVE_FILES if _CURVES.value else ():
        originals.check(os.path.join(_CURVES.value, name), _CURVES.name)
    if _PREDICTIONS_OUT.value:
        written = [os.path.join(_PREDICTIONS_OUT.value, f"{os.path.splitext(path)[0]}.txt") for path in paths]
        for path in (runner.settings_path(_PREDICTIONS_OUT.value), *written):
            originals.check(path, _PREDICTIONS_OUT.name)


def _run() -> int:
    _check_flags()
    _check_places()
    numbers = evaluate()
    if _JSON.value == "-":
        print(report.to_json(numbers), end="", flush=True)
        print(report.to_text(numbers), file=sys.stderr)
        return 0
    try:
        if _JSON.value:
            with atomic.file(_JSON.value) as partial:
                partial.write_text(report.to_json(numbers), encoding="utf-8")
    finally:  # a full disk does not cost the numbers
        print(report.to_text(numbers), flush=True)
    return 0


def main(argv):
    """Measures, prints, and writes what the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    measures = (_GROUND_TRUTH.value, _LANDMARKS.value, _FDDB.value)
    if not any((*measures, _DENSE.value)):
        raise app.UsageError("give --ground_truth, --landmarks, --fddb or --dense: what to measure by")
    if any(measures) and bool(_MODEL.value) == bool(_PREDICTIONS.value):
        raise app.UsageError("give either --model or --predictions")
    if _MESH.value and not (_MODEL.value and (_GROUND_TRUTH.value or _LANDMARKS.value)):
        raise app.UsageError("--mesh needs --model, and --ground_truth or --landmarks")
    if (_MODEL.value or _FDDB.value) and not _IMAGES.value:
        raise app.UsageError("--model and --fddb need --images")
    if bool(_DENSE.value) != bool(_MESHES.value):
        raise app.UsageError("--dense and --meshes go together")
    return stopping.run(_run, hint="; the same command goes on from here" if _PREDICTIONS_OUT.value else "")
