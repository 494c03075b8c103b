"""Runs a detector over a data set, image by image, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tqdm
from absl import logging

from keras_retinaface import atomic
from keras_retinaface.evaluation import prediction
from keras_retinaface.formats import annotation_text
from keras_retinaface.inference import detector as detector_lib
from keras_retinaface.inference import merging
from keras_retinaface.media import image_file


def find_images(directory: str | os.PathLike, paths: Sequence[str], *, is_partial: bool) -> list[str]:
    """Checks which images of a data set are there.

    Args:
        directory: folder that the paths start from.
        paths: relative, with extension.
        is_partial: whether images may be missing.

    Returns:
        The paths that are there, in order.

    Raises:
        FileNotFoundError: if an image is missing and that is not allowed, or all are.
    """
    found = [path for path in paths if os.path.isfile(os.path.join(directory, path))]
    if len(found) == len(paths):
        return found
    there = set(found)
    first = next(path for path in paths if path not in there)
    if not found or not is_partial:
        hint = "" if not found else " A part of a data set is evaluated when that is asked for (--partial)."
        raise FileNotFoundError(
            f"{directory} lacks {len(paths) - len(found)} of {len(paths)} images, as {first}.{hint}"
        )
    logging.info("%d of %d images are in %s; the others are left out", len(found), len(paths), directory)
    return found


def detect(
    detector: detector_lib.Detector,
    directory: str | os.PathLike,
    paths: Sequence[str],
    *,
    output: str | os.PathLike | None = None,
    settings: Mapping | None = None,
    max_pixels: int | None = None,
    on_broken: Callable[[ValueError], None] | None = None,
) -> tuple[dict[str, merging.Detections], float]:
    """Detects faces in every image, with a progress bar.

    Args:
        detector: detector with any kind of model.
        directory: folder that the paths start from.
        paths: paths of the images, relative, with extension.
        output: folder for predictions in the official text format, landmarks behind the score; images whose file is
            there already are read and not detected again.
        settings: what the predictions depend on, ready for JSON; kept beside `output`, so that a run never goes on with
            predictions of another model or other options.
        max_pixels: as for `image_file.read`.
        on_broken: takes the error of an image that cannot be read or detected on, which then counts as one without
            detections. None raises it.

    Returns:
        Path without extension -> detections; and the mean time of detection of the images that were detected now,
        seconds, without the first, which builds the graph (NaN if there was no other).

    Raises:
        ValueError: if an image cannot be read and `on_broken` is None, or `output` holds predictions made with other
            settings.
    """
    if output is not None:
        _check_settings(pathlib.Path(output), settings or {})
    predictions, seconds = {}, []
    # In a log file a line every half minute is enough.
    interval = 0.1 if sys.stderr.isatty() else 30.0
    for path in tqdm.tqdm(paths, unit="image", desc="detecting", mininterval=interval):
        name = os.path.splitext(path)[0]
        if expected := annotation_text.name_fault(path):
            raise ValueError(f"`paths` must be {expected}. Received: {annotation_text.shorten(path)}")
        stored = None if output is None else pathlib.Path(output, f"{name}.txt")
        if stored is not None and stored.is_file():
            predictions[name] = prediction.parse(annotation_text.read(stored), where=str(stored))
            continue
        try:
            image = image_file.read(os.path.join(directory, path), max_pixels=max_pixels)
            begin = time.perf_counter()
            faces = detector.detect(image)
        except ValueError as error:
            if on_broken is None:
                raise
            on_broken(error)
            predictions[name] = to_detections([])
            continue
        seconds.append(time.perf_counter() - begin)
        predictions[name] = to_detections(faces)
        if output is not None:
            prediction.write(output, name, predictions[name])
    if len(seconds) < len(paths):
        logging.info("%d of %d images were detected by an earlier run", len(paths) - len(seconds), len(paths))
    return predictions, float(np.mean(seconds[1:])) if len(seconds) > 1 else float("nan")


def to_detections(faces: Sequence[detector_lib.Face]) -> merging.Detections:
    """Turns the faces of one image into detections, float64."""
    return merging.Detections(
        boxes=np.array([face.box for face in faces], np.float64).reshape(-1, 4),
        scores=np.array([face.score for face in faces], np.float64),
        landmarks=np.array([face.landmarks for face in faces], np.float64).reshape(-1, 5, 2),
    )


def fingerprint(model: str) -> str:
    """Returns a digest of a model's files, or the name itself where it is not a path: that of a preset.

    Args:
        model: as for `Detector`.
    """
    path = pathlib.Path(model)
    if (path / "model.keras").is_file():
        path = path / "model.keras"  # a workdir; its logs do not matter
    if not path.exists():
        return model
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def settings_path(output: str | os.PathLike) -> pathlib.Path:
    """Returns where the settings of a folder of predictions are kept."""
    # Beside the folder: common evaluation programs take whatever is in it for an event.
    output = pathlib.Path(os.path.abspath(output))
    return output.with_name(f"{output.name}.settings.json")


def _check_settings(output: pathlib.Path, settings: Mapping) -> None:
    path = settings_path(output)
    settings = json.loads(json.dumps(dict(settings)))
    if path.is_file():
        stored = _read_settings(path)
        if stored != settings:
            keys = sorted(key for key in {*stored, *settings} if stored.get(key) != settings.get(key))
            said = ", ".join(f"{key}={stored.get(key)!r} then, {settings.get(key)!r} now" for key in keys)
            raise ValueError(f"{output} holds predictions made with other settings ({said}): remove it and {path}")
        return
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty and was not made by this command: {path} is missing")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path) as partial:
        partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _read_settings(path: pathlib.Path) -> dict:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable JSON: {error}; remove it and the predictions beside it") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{path}: expected an object. Received: {str(stored)[:80]!r}")
    return stored
