"""Shows which sizes of face a detector gets right: photos with one face, scaled so that it has each size.

    python -m benchmarks.face_sizes
    python -m benchmarks.face_sizes --model=retinaface.tflite --margins=0.5 --sizes=64,600,1500

A photo is cut around its face with a margin, in sizes of the face, and scaled so that the longer side of the face is as
long as asked for. "Other boxes" are whatever else was found, of all photos.
"""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from absl import app, flags

from keras_retinaface import program
from keras_retinaface.geometry import overlap
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file

_MODEL = flags.DEFINE_string("model", "mobilenet025", "What `Detector` takes.")
_SIZES = flags.DEFINE_list(
    "sizes", "16,32,64,128,256,400,600,800,1000,1500,2000,3000".split(","), "Longer sides of the face, pixels."
)
_MARGINS = flags.DEFINE_list("margins", ["0.2", "1"], "Margins around the face, in its longer sides.")
_MAX_MEGAPIXELS = flags.DEFINE_float("max_megapixels", 20.0, "Larger pictures are left out.")
_PHOTOS = flags.DEFINE_string("photos", "examples/photos", "Folder of photos, with label.txt.")
# Overlap from which on a box is the face.
_FOUND_IOU = 0.5


def read_photos(folder: pathlib.Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the photos that show one face, uint8 `[H, W, 3]`, with its box, float `[4]`, xyxy, pixels."""
    faces: dict[str, list] = {}
    for line in (folder / "label.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            rows = faces.setdefault(line[1:].strip(), [])
        elif line.strip():
            x, y, width, height = (float(value) for value in line.split()[:4])
            rows.append(np.array([x, y, x + width, y + height]))
    return [(image_file.read(folder / name), rows[0]) for name, rows in faces.items() if len(rows) == 1]


def scale_face(image: np.ndarray, box: np.ndarray, size: float, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a photo around a face and scales it; returns the picture and the face's box in it."""
    side = max(box[2:] - box[:2])
    left, top = (int(value) for value in np.maximum(box[:2] - margin * side, 0))
    right, bottom = (int(value) for value in np.minimum(box[2:] + margin * side, image.shape[1::-1]))
    factor = size / side
    shape = (max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image[top:bottom, left:right], shape, interpolation=interpolation)
    return picture, (box - np.array([left, top, left, top])) * factor


def measure(found_by: detector.Detector, photos, size: float, margin: float) -> dict | None:
    """Detects on all photos; returns None if all are too large."""
    rows = []
    for image, box in photos:
        side = max(box[2:] - box[:2])
        if image.shape[0] * image.shape[1] * (size / side) ** 2 > 400e6:  # do not even make it
            continue
        picture, expected = scale_face(image, box, size, margin)
        if picture.shape[0] * picture.shape[1] > _MAX_MEGAPIXELS.value * 1e6:
            continue
        faces = found_by.detect(picture)
        overlaps = [float(overlap.iou(face.box[None], expected[None])[0, 0]) for face in faces]
        best = int(np.argmax(overlaps)) if overlaps and max(overlaps) >= _FOUND_IOU else None
        score, shared = (0.0, 0.0) if best is None else (faces[best].score, overlaps[best])
        rows.append((best is not None, score, shared, len(faces) - (best is not None)))
    if not rows:
        return None
    found, scores, overlaps, others = zip(*rows)
    return {"photos": len(rows), "found": sum(found), "score": min(scores), "iou": min(overlaps), "false": sum(others)}


def main(argv):
    """Prints a table."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    found_by, photos = detector.Detector(_MODEL.value), read_photos(pathlib.Path(_PHOTOS.value))
    print("| face, px | margin | photos | found | least score | least IoU | other boxes |")
    print("|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for size in _SIZES.value:
        for margin in _MARGINS.value:
            row = measure(found_by, photos, float(size), float(margin))
            if row:
                values = f"{row['photos']} | {row['found']} | {row['score']:.2f} | {row['iou']:.2f} | {row['false']}"
                print(f"| {size} | {margin} | {values} |", flush=True)


if __name__ == "__main__":
    program.run(main)
