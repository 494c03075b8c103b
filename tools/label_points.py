r"""Adds five landmarks to annotated faces, as a detector sees each face by itself, enlarged and mirrored too.

    python -m tools.label_points --images=WIDER_train/images --annotations=wider_face_train_bbx_gt.txt \
        --output=points.json

Of a photo's small faces a detector knows where they are better than where their eyes are; enlarged, it knows both. Each
face is cut out at --sizes, and its points are the mean of what is found there. Faces that are too small, that are not
found again, or whose points hang on the size, as those of faces turned away do, stay without points: training then
learns their boxes alone. OUTPUT is COCO's JSON of all faces, for `retinaface train` and `tools.distill`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence

import numpy as np
import tqdm
from absl import app, flags, logging

from data_pipeline import record as record_lib
from keras_retinaface import atomic, output, program
from keras_retinaface.formats import coco_annotation
from keras_retinaface.geometry import overlap
from keras_retinaface.inference import detector as detector_lib
from keras_retinaface.media import alignment, image_file
from tools import command

_MODEL = flags.DEFINE_string("model", "mobilenet025_public", "What sees the points: a preset or any model.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of photos.", required=True)
_ANNOTATIONS = flags.DEFINE_string(
    "annotations", None, "Faces: WIDER FACE text, RetinaFace label.txt or COCO JSON.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "The .json to write.", required=True)
_SIZES = flags.DEFINE_list("sizes", ["352", "448"], "Sides of the cut, pixels; the face is half of it.")
_MIN_FACE = flags.DEFINE_float("min_face", 20.0, "Faces of a smaller size, root of the area in pixels, get no points.")
_MAX_GAP = flags.DEFINE_float("max_gap", 0.1, "Nor do those whose points lie further apart, in sizes of the face.")

# Around the face on each side, in its longer side.
_MARGIN = 0.5
# Detections of a cut that are of the face in its middle, and sure of it.
_MIN_OVERLAP, _MIN_SCORE = 0.4, 0.5


def look(detect: Callable, image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray | None:
    """Finds the landmarks of one face in an enlarged cut.

    Args:
        detect: gives the faces of an image, as `Detector.detect`.
        image: uint8 `[H, W, 3]`, RGB.
        box: float `[4]`, xyxy, pixels.
        size: side of the cut, pixels.

    Returns:
        float64 `[5, 2]`, pixels of the image; None where the face is not found.
    """
    low, high = np.asarray(box, np.float64).reshape(2, 2)
    side = (1 + 2 * _MARGIN) * max(high - low)
    corner, scale = (low + high - side) / 2, size / side
    found = detect(alignment.plain_crop(image, box, size, _MARGIN))
    if not found:
        return None
    there = (np.stack([low, high]) - corner) * scale
    shared = overlap.iou(np.stack([face.box for face in found]), there.reshape(1, 4))[:, 0]
    merit = [face.score * share * (share >= _MIN_OVERLAP) for face, share in zip(found, shared)]
    best = int(np.argmax(merit))
    if not merit[best] or found[best].score < _MIN_SCORE:
        return None
    return np.asarray(found[best].landmarks, np.float64) / scale + corner


def points_of(detect: Callable, image: np.ndarray, box: np.ndarray, sizes: Sequence[int], max_gap: float):
    """Returns the mean float64 `[5, 2]` of what `look` finds at all sizes, None where that is no mean of one thing."""
    found = [look(detect, image, box, size) for size in sizes]
    if any(points is None for points in found):
        return None
    mean = np.mean(found, axis=0)
    gaps = [np.linalg.norm(a - b, axis=-1).mean() for a, b in zip(found, found[1:])]
    size = np.sqrt(np.prod(np.reshape(box, (2, 2))[1] - np.reshape(box, (2, 2))[0]))
    return mean if max(gaps, default=0.0) <= max_gap * size else None


def annotate(
    detect: Callable,
    records: Sequence[record_lib.Record],
    images: str,
    sizes: Sequence[int],
    *,
    min_face: float,
    max_gap: float,
) -> dict:
    """Makes COCO's object of photos with their faces, those with points that have some.

    Args:
        detect: gives the faces of an image, as `Detector.detect`.
        records: the photos with their boxes; points that they have are left out.
        images: folder of the photos.
        sizes: sides of the cuts, pixels.
        min_face: faces of a smaller size, root of the area in pixels, get no points.
        max_gap: nor do those whose points of two sizes lie further apart, in sizes of the face.
    """
    pictures, rows = [], []
    for number, record in enumerate(tqdm.tqdm(records, unit="photo", disable=None), 1):
        image = image_file.read(os.path.join(images, record.image))
        pictures.append(coco_annotation.image(number, record.image, image.shape[:2]))
        for box, is_ignored in zip(record.boxes, record.is_ignored):
            extent = (box[2:] - box[:2]).astype(float)
            is_large = min(extent) > 0 and np.prod(extent) >= min_face**2
            points = points_of(detect, image, box, sizes, max_gap) if is_large and not is_ignored else None
            options = {"is_ignored": is_ignored, "landmarks": points, "digits": 2}
            rows.append(coco_annotation.face(len(rows) + 1, number, (*box[:2], *extent), **options))
    return {"images": pictures, "annotations": rows, "categories": list(coco_annotation.CATEGORIES)}


def main(argv):
    """Looks at every face, and writes."""
    from data_pipeline import source

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    sizes = command.numbers(_SIZES)
    if not sizes or not all(32 <= size <= 2048 and size == int(size) for size in sizes):
        raise app.UsageError(f"--sizes must be whole numbers from 32 to 2048. Received: {_SIZES.value}")
    try:
        output.check_file(_OUTPUT.value, _OUTPUT.name)
        output.Originals([_ANNOTATIONS.value]).check(_OUTPUT.value, _OUTPUT.name)
        detector = detector_lib.Detector(_MODEL.value, score_threshold=0.05, use_flip=True, use_voting=True)
        # A photo that is damaged costs itself alone, and the status says so.
        bad_data = record_lib.BadData(record_lib.SKIP)
        records = source.read_records(_IMAGES.value, _ANNOTATIONS.value, None, bad_data)
        bad_data.report(len(records))
        made = annotate(
            detector.detect,
            records,
            _IMAGES.value,
            list(map(int, sizes)),
            min_face=_MIN_FACE.value,
            max_gap=_MAX_GAP.value,
        )
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 1
    with atomic.file(_OUTPUT.value) as partial:
        partial.write_text(json.dumps(made) + "\n", encoding="utf-8")
    count = sum("keypoints" in row for row in made["annotations"])
    logging.info("%s: %d faces, %d with points", _OUTPUT.value, len(made["annotations"]), count)
    return int(bool(bad_data.faults))


if __name__ == "__main__":
    program.run(main)
