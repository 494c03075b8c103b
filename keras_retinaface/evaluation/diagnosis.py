"""Recognises predictions in a wrong format, which would otherwise just score near zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_retinaface.evaluation import pairing, prediction, wider_face
from keras_retinaface.evaluation import table as table_lib

# Boxes are looked at in a sample of images: a wrong format shows in any hundred.
NUM_IMAGES = 200
# Largest coordinate that still is a share of the image; some detectors reach a little past its edge.
LARGEST_SHARE = 2.0
# A reading is believed when it finds this share of the faces, and this many times as many as the official reading.
# Turning right boxes into another format never comes near: half a width aside leaves an overlap of 0.14.
MIN_FOUND = 0.15
MIN_RATIO = 3.0


def _corners(x1, y1, x2, y2, score):
    return x1, y1, x2 - x1, y2 - y1, score


# What rows of five numbers may have been meant as, turned into `x y width height score`.
READINGS: dict[str, Callable] = {
    "corners `x1 y1 x2 y2 score`": _corners,
    "centres `cx cy width height score`": lambda cx, cy, w, h, s: (cx - w / 2, cy - h / 2, w, h, s),
    "swapped axes `y x height width score`": lambda y, x, h, w, s: (x, y, w, h, s),
    "corners with swapped axes `y1 x1 y2 x2 score`": lambda y1, x1, y2, x2, s: _corners(x1, y1, x2, y2, s),
    "the score first, `score x y width height`": lambda s, x, y, w, h: (x, y, w, h, s),
    "the score first and corners, `score x1 y1 x2 y2`": lambda s, x1, y1, x2, y2: _corners(x1, y1, x2, y2, s),
}


def check(detections: table_lib.Table, ground_truth: wider_face.GroundTruth) -> None:
    """Raises an error that names the mistake if boxes are in another format, or under another image's name.

    Args:
        detections: detections of the images of the ground truth, read as x, y, width, height, score.
        ground_truth: the faces.

    Raises:
        ValueError: that says what the rows seem to hold, and how many faces that reading finds.
    """
    names = [name for name, count in zip(detections.names, np.diff(detections.offsets)) if count]
    if not names:
        return
    names = names[:: -(-len(names) // NUM_IMAGES)]
    sample, found = ground_truth.select(names), detections.best_first().select(names)
    rows = prediction.to_rows(found.rows)  # as the files have them
    if np.abs(rows[:, :4]).max() <= LARGEST_SHARE:
        raise ValueError(
            "The boxes look normalised (no coordinate is over "
            f"{np.abs(rows[:, :4]).max():.3g}): multiply x and width by the width of the image, y and height by its "
            "height. Wanted: `x y width height score` in pixels"
        )
    share_found = _share_found(found.rows.boxes, found.offsets, sample)
    for reading, convert in READINGS.items():
        boxes = prediction.of_rows(np.stack(convert(*rows.T), axis=1)).boxes
        share = _share_found(boxes, found.offsets, sample)
        if share >= max(MIN_FOUND, MIN_RATIO * share_found):
            raise ValueError(
                f"The rows look like {reading}: read so they find {share:.0%} of the faces in {len(names)} images, "
                f"as `x y width height score` {share_found:.0%}"
            )
    if share_found < MIN_FOUND:
        _check_names(found, ground_truth)


def _share_found(boxes, offsets, ground_truth: wider_face.GroundTruth) -> float:
    # Share of the hard subset's faces that any box overlaps by one half.
    keep = ground_truth.keep["hard"]
    pairs = pairing.find(ground_truth.boxes, ground_truth.offsets, boxes, offsets, wider_face.MIN_OVERLAP, pixel=1)
    return np.count_nonzero(keep[np.unique(pairs.faces)]) / max(1, np.count_nonzero(keep))


def _check_names(found: table_lib.Table, ground_truth: wider_face.GroundTruth) -> None:
    # Looks for images whose best boxes fit the faces of another image.
    num_boxes, num_images, min_faces = 10, 30, 3
    counts = np.diff(found.offsets)
    images = np.flatnonzero(counts >= min_faces)[:num_images]
    swapped = []
    owner = np.repeat(np.arange(len(ground_truth.names)), np.diff(ground_truth.offsets))
    for image in images:
        name, first = found.names[image], found.offsets[image]
        boxes = found.rows.boxes[first : first + min(num_boxes, counts[image])]
        everywhere = np.array([0, len(owner)]), boxes, np.array([0, len(boxes)])
        pairs = pairing.find(ground_truth.boxes, *everywhere, wider_face.MIN_OVERLAP, pixel=1)
        hits = np.unique(np.stack([owner[pairs.faces], pairs.detections]), axis=1)[0]
        if not hits.size:
            continue
        votes = np.bincount(hits)
        best = int(votes.argmax())
        if votes[best] >= max(min_faces, 0.6 * len(boxes)) and ground_truth.names[best] != name:
            swapped.append((name, ground_truth.names[best]))
    if len(swapped) > len(images) / 2:
        raise ValueError(
            f"Predictions look swapped between images: in {len(swapped)} of {len(images)} files the boxes fit another "
            f"image; those of {swapped[0][0]} are the faces of {swapped[0][1]}"
        )
