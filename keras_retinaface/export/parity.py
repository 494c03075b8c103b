"""How far an exported model's faces lie from those of the Keras model that it was made of."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import overlap
from keras_retinaface.inference import runtime
from keras_retinaface.inference import view as view_lib


def measure(model, path: str | os.PathLike, detection: config_lib.Detection, images: Sequence[np.ndarray]) -> dict:
    """Runs an exported model beside the Keras model on the same pixels and returns the largest differences.

    Args:
        model: the RetinaFace that was exported.
        path: path of the SavedModel or `.tflite` file.
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
            fitted = image if size is None else view_lib.letterbox(image, size)[0]
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
    overlaps = overlap.iou(ours["boxes"], theirs["boxes"])
    for index in range(len(ours["boxes"])):
        best = max(free, key=overlaps[index].__getitem__, default=None)
        if best is None or overlaps[index, best] < 0.5:
            report["unmatched"] += 1
            continue
        free.discard(best)
        for name, key in (("box", "boxes"), ("landmark", "landmarks"), ("score", "scores")):
            differences[name].append(float(np.max(np.abs(ours[key][index] - theirs[key][best]))))
    report["unmatched"] += len(free)
