"""Puts the numbers of an evaluation together, ready for JSON, and writes its curves. Computes none itself."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from keras_retinaface.evaluation import aflw2000, annotation, coco, curve, diagnosis, landmark, wider_face
from keras_retinaface.evaluation import fddb as fddb_lib
from keras_retinaface.evaluation import table as table_lib
from keras_retinaface.inference import merging
from keras_retinaface.media import image_file

# Papers read the ROC of FDDB at these numbers of false positives.
FALSE_POSITIVES = (500, 1000, 2000)
# What may lie in a folder of curves.
CURVE_FILES = tuple(
    f"{name}.{suffix}" for name in ("precision_recall", "landmark_errors", "fddb_roc") for suffix in ("csv", "png")
)


def of_wider_face(
    predictions: Mapping[str, merging.Detections],
    ground_truth: wider_face.GroundTruth,
    *,
    compat: str = "matlab",
    curves: str | os.PathLike | None = None,
) -> dict:
    """Computes WIDER FACE's and COCO's average precision.

    Args:
        predictions: detections by "event/image".
        ground_truth: cut to the images that count.
        compat: as for `wider_face.evaluate`.
        curves: folder for precision-recall curves, or None.

    Returns:
        `easy`, `medium`, `hard`: AP at 0.5; `map`: COCO's mAP@[.5:.95] of the hard subset, other faces ignored;
        `map_all`, `map_all_50`, `map_all_75`: plain COCO over all faces; `images`, `faces`.

    Raises:
        ValueError: if the predictions are in a wrong format; says in which.
    """
    detections = table_lib.stack(predictions, ground_truth.names)
    diagnosis.check(detections, ground_truth)
    points = wider_face.precision_recall(detections, ground_truth, compat=compat)
    if curves:
        curve.write_precision_recall(curves, points)
    detections = detections.best_first()
    everything = coco.evaluate(detections, ground_truth)
    return {
        **{subset: wider_face.average_precision(subset_points) for subset, subset_points in points.items()},
        "map": coco.evaluate(detections, ground_truth, subset="hard").ap,
        "map_all": everything.ap,
        "map_all_50": everything.ap50,
        "map_all_75": everything.ap75,
        "images": len(ground_truth.names),
        "faces": ground_truth.num_faces,
    }


def of_landmarks(
    predictions: Mapping[str, merging.Detections],
    annotations: Sequence[annotation.Annotation],
    *,
    curves: str | os.PathLike | None = None,
) -> dict:
    """Computes the errors of five landmarks.

    Args:
        predictions: detections with landmarks by image path without extension.
        annotations: annotations of the images.
        curves: folder for the cumulative error curve, or None.

    Returns:
        `nme`, `failure_rate`, and the rest of `landmark.Result.summarise` as `landmarks`.

    Raises:
        ValueError: if the predictions have no landmarks.
    """
    detections = {}
    for face in annotations:
        found = predictions.get(os.path.splitext(face.image)[0], merging.empty())
        if found.landmarks is None:
            raise ValueError("landmarks need predictions with 15 numbers a row. Received: 5")
        detections[face.image] = found
    result = landmark.evaluate(detections, annotations)
    if curves:
        x, share = landmark.cumulative(result.face_errors)
        path = curve.write_csv(pathlib.Path(curves, "landmark_errors.csv"), "error share", zip(x, share))
        curve.write_png(
            path.with_suffix(".png"),
            {"five landmarks": (x, share)},
            title="Cumulative error",
            labels=("error / sqrt(width x height)", "share of faces"),
            limits=(landmark.FAILURE, 1.0),
        )
    summary = result.summarise()
    return {"nme": summary.pop("nme"), "failure_rate": summary.pop("failure_rate"), "landmarks": summary}


def of_fddb(
    detections: Mapping[str, merging.Detections | np.ndarray],
    faces: Mapping[str, np.ndarray],
    images: str | os.PathLike,
    *,
    curves: str | os.PathLike | None = None,
) -> dict:
    """Computes both ROC of FDDB.

    Args:
        detections: as for `fddb.evaluate`.
        faces: as from `fddb.read_ellipses`.
        images: folder of the images, whose sizes count.
        curves: folder for the ROC, or None.

    Returns:
        `fddb`: true positive rates at `FALSE_POSITIVES`, discrete and continuous, images and faces.
    """
    sizes = {name: _size_of(pathlib.Path(images, f"{name}.jpg")) for name in faces}
    roc = fddb_lib.evaluate(detections, faces, sizes)
    if curves:
        columns = zip(roc.scores, roc.false_positives, roc.discrete, roc.continuous)
        path = curve.write_csv(
            pathlib.Path(curves, "fddb_roc.csv"), "score false_positives discrete continuous", columns
        )
        curve.write_png(
            path.with_suffix(".png"),
            {kind: (roc.false_positives, getattr(roc, kind)) for kind in ("discrete", "continuous")},
            title="FDDB",
            labels=("false positives", "true positive rate"),
            limits=(FALSE_POSITIVES[-1], 1.0),
        )
    return {
        "fddb": {
            "discrete": {str(limit): roc.at(limit)[0] for limit in FALSE_POSITIVES},
            "continuous": {str(limit): roc.at(limit)[1] for limit in FALSE_POSITIVES},
            "images": len(faces),
            "faces": sum(len(ellipses) for ellipses in faces.values()),
        }
    }


def of_dense(predicted: str | os.PathLike, truth: str | os.PathLike) -> dict:
    """Computes the errors of meshes.

    Args:
        predicted: file as for `aflw2000.load`.
        truth: file or folder as for `aflw2000.load`.

    Returns:
        `dense`: as from `aflw2000.evaluate`.

    Raises:
        ValueError: if there is nothing to compare, or the truth lacks landmarks or yaw.
    """
    true_meshes = aflw2000.load(truth)
    if true_meshes.landmarks is None or true_meshes.yaw is None:
        raise ValueError(f"{truth}: true meshes need `landmarks` and `yaw`")
    return {"dense": aflw2000.evaluate(aflw2000.load(predicted), true_meshes)}


def to_json(report: Mapping) -> str:
    """Returns the text of a report; what is NaN (a subset without faces) becomes null."""
    return json.dumps(_without_nan(report), indent=2) + "\n"


def to_text(report: Mapping) -> str:
    """Returns a report as aligned lines, shares to four decimals."""
    lines = []
    for key, value in report.items():
        if isinstance(value, Mapping):
            lines.append(f"{key}")
            lines.extend(f"  {line}" for line in to_text(value).splitlines())
        else:
            lines.append(f"{key:<20} {value:.4f}" if isinstance(value, float) else f"{key:<20} {value}")
    return "\n".join(lines)


def _without_nan(value):
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _size_of(path: pathlib.Path) -> tuple[int, int]:
    # (height, width) from the header, without decoding.
    with Image.open(path, formats=image_file.FORMATS) as image:
        return image.height, image.width
