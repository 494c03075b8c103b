"""Writes annotations for photos that have none, as a detector sees them, to train on.

    retinaface label --images=photos --output=label.txt
    retinaface label --images=photos --output=label.json --scales=500,800,1200,1600 --flip --voting
    retinaface train --train_images=photos --train_annotations=label.txt ...

What scores --face_threshold and more is a face. What scores less, down to --score_threshold, is marked to be ignored:
training takes it neither for a face nor for background. More --scales and --flip make labels better than what one look
at a photo gives, which is what a network can learn from them.

OUTPUT names photos as they lie under --images. A `.txt` is the official text of WIDER FACE: boxes, and 1 as the eighth
number of a row that is ignored. A `.json` is COCO's: `iscrowd` for ignored rows, and the five points of faces too.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

import tqdm
from absl import app, flags, logging

from keras_retinaface import atomic, output, stopping
from keras_retinaface.cli import detection_flags
from keras_retinaface.formats import coco_annotation
from keras_retinaface.media import image_file

_TEXT, _COCO = ".txt", ".json"
# Of the official text: blur, expression, illumination, then invalid, occlusion and pose, which nobody looked at.
_ROW = "{:.1f} {:.1f} {:.1f} {:.1f} 0 0 0 {:d} 0 0"

_MODEL = detection_flags.define_model("mobilenet025")
_IMAGES = flags.DEFINE_string("images", None, "Folder of photos, with those in folders below it.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Annotations to write: a .txt (WIDER FACE) or a .json (COCO).", required=True
)
_FACE_THRESHOLD = flags.DEFINE_float(
    "face_threshold", 0.75, "From this score on it is a face; from --score_threshold to it, ignored."
)
_MAX_PIXELS = detection_flags.define_max_pixels()
make_detector, _settings = detection_flags.define(score_threshold=0.1)


@dataclasses.dataclass(frozen=True)
class _Photo:
    """A photo's name under the folder, its upright (height, width) in pixels, and what was found in it."""

    name: str
    size: tuple[int, int]
    faces: list

    def rows(self) -> list[tuple[list[float], bool, object]]:
        """Returns x, y, width and height inside the photo, whether to ignore it, and the face; none without area."""
        height, width = self.size
        rows = []
        for face in self.faces:
            left, top, right, bottom = (float(value) for value in face.box)
            left, right = max(left, 0.0), min(right, float(width))
            top, bottom = max(top, 0.0), min(bottom, float(height))
            if right - left >= 1 and bottom - top >= 1:
                box = [left, top, right - left, bottom - top]
                rows.append((box, face.score < _FACE_THRESHOLD.value, face))
        return rows


def _official(photos: Sequence[_Photo]) -> str:
    """Returns the official text; a photo without faces has one row of zeros there."""
    lines = []
    for photo in photos:
        rows = photo.rows()
        lines += [photo.name, str(len(rows)), *(_ROW.format(*box, is_ignored) for box, is_ignored, _ in rows)]
        lines += [] if rows else [" ".join("0" * 10)]
    return "".join(f"{line}\n" for line in lines)


def _coco(photos: Sequence[_Photo]) -> str:
    images, annotations = [], []
    for number, photo in enumerate(photos, 1):
        images.append(coco_annotation.image(number, photo.name, photo.size))
        for box, is_ignored, face in photo.rows():
            landmarks = None if is_ignored else face.landmarks
            options = {"is_ignored": is_ignored, "landmarks": landmarks, "score": face.score}
            annotations.append(coco_annotation.face(len(annotations) + 1, number, box, **options))
    made = {"images": images, "annotations": annotations, "categories": list(coco_annotation.CATEGORIES)}
    return json.dumps(made) + "\n"


def _check_name(name: str, suffix: str) -> None:
    if suffix == _TEXT and (name != name.strip() or len(name.splitlines()) != 1):
        raise ValueError(f"expected a name that is a line of text. Received: {name!r}; a .json can hold it")
    if suffix == _TEXT and any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"expected a name in UTF-8. Received: {name!r}; a .json can hold it")


def _run() -> int:
    folder, path = pathlib.Path(_IMAGES.value), pathlib.Path(_OUTPUT.value)
    suffix = path.suffix.lower()
    if suffix not in (_TEXT, _COCO):
        raise ValueError(f"--output: expected a .txt or .json. Received: {path}")
    lowest = _settings()["score_threshold"]
    if not 0 < lowest <= _FACE_THRESHOLD.value <= 1:
        raise ValueError(
            "expected 0 < --score_threshold <= --face_threshold <= 1. "
            f"Received: --score_threshold={lowest} --face_threshold={_FACE_THRESHOLD.value}"
        )
    if not folder.is_dir():
        raise ValueError(f"--images: expected a folder. Received: {folder}")
    paths = image_file.find(str(folder))
    if not paths:
        raise ValueError(f"--images={folder}: no images there")
    output.check_file(path, _OUTPUT.name)
    output.Originals([*paths, _MODEL.value]).check(path, _OUTPUT.name)
    detector, photos, num_broken, status = make_detector(_MODEL.value), [], 0, None
    try:
        for found in tqdm.tqdm(paths, unit="image", disable=None):
            name = pathlib.Path(found).relative_to(folder).as_posix()
            try:
                _check_name(name, suffix)
                image = image_file.read(found, max_pixels=_MAX_PIXELS.value)
                photos.append(_Photo(name, image.shape[:2], detector.detect(image)))
            except Exception as error:  # of any kind: what a picture does to a decoder costs its own rows alone
                num_broken += 1
                logging.error("%s: left out: %s", found, error)
    except KeyboardInterrupt as error:
        status = stopping.status_of(error)
        logging.error("stopped after %d of %d images; their labels are written", len(photos) + num_broken, len(paths))
    with atomic.file(path) as partial:
        partial.write_text(_official(photos) if suffix == _TEXT else _coco(photos), encoding="utf-8")
    rows = [is_ignored for photo in photos for _, is_ignored, _ in photo.rows()]
    print(
        f"{'images':>8} {'broken':>8} {'faces':>8} {'ignored':>8}\n"
        f"{len(photos):>8} {num_broken:>8} {len(rows) - sum(rows):>8} {sum(rows):>8}\nwrote {path}",
        file=sys.stderr,
    )
    return status if status is not None else int(num_broken > 0)


def main(argv):
    """Labels the photos that the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    return stopping.run(_run)
