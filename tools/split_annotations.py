"""Sets a part of annotated images aside by their names, to choose runs, means and thresholds by what no run has seen.

    python -m tools.split_annotations --annotations=label.txt --output=runs/split
    python train_main.py --train_annotations=runs/split/train.txt --val_ground_truth=runs/split/ground_truth ...
    python evaluate_main.py --model=mobilenet025 --images=WIDER_train/images --ground_truth=runs/split/ground_truth

Reads WIDER FACE's text or RetinaFace's label.txt. Writes OUTPUT/train.txt and OUTPUT/held_out.txt, every image with the
lines that it has in the file, and OUTPUT/ground_truth: the faces of held_out.txt as the four files of the official
ground truth, for evaluate_main.py and training.
"""

from __future__ import annotations

import collections
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.io
from absl import app, flags, logging

from data_pipeline import record as record_lib
from data_pipeline import wider_face
from keras_retinaface import atomic, program

_ANNOTATIONS = flags.DEFINE_string("annotations", None, "WIDER FACE text or label.txt.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for both parts and the ground truth.", required=True)
_SHARE = flags.DEFINE_float("share", 0.1, "How many of the images are set aside, between 0 and 1.")

# Faces higher than this many pixels count in a subset. The official lists, which only validation images have, follow
# this rule but for 84, 236 and 810 of 39,702 faces, which are exactly as high and count in part.
HEIGHTS = {"easy": 50, "medium": 30, "hard": 10}


def is_held_out(image: str, share: float) -> bool:
    """Returns whether an image is set aside: by its name alone, so that no other image and no order changes it.

    Args:
        image: path below the folder of images; its ending does not count.
        share: share of all images, between 0 and 1. A larger one holds the images of a smaller one.
    """
    digest = hashlib.sha256(pathlib.PurePosixPath(image).with_suffix("").as_posix().encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_lines(path: str, records: Sequence[record_lib.Record], share: float) -> tuple[str, str]:
    """Splits the text of an annotation file.

    Args:
        path: path of the file.
        records: what `wider_face.read` read from it.
        share: see `is_held_out`.

    Returns:
        The lines of the images to train on, and of those set aside.
    """
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    starts = [int(record.where.rsplit(":", 1)[1]) - 1 for record in records]
    parts: tuple[list, list] = [], []
    for record, start, end in zip(records, starts, [*starts[1:], len(lines)]):
        parts[is_held_out(record.image, share)].extend(lines[start:end])
    train, held_out = ("".join(f"{line}\n" for line in part) for part in parts)
    return train, held_out


def ground_truth(records: Sequence[record_lib.Record]) -> dict[str, dict]:
    """Returns the contents of the four files of the official ground truth, by name.

    Args:
        records: annotated images. Faces that are ignored count in no subset.

    Raises:
        ValueError: if an image is no .jpg, the only ending that the official files know.
    """
    events = collections.defaultdict(list)
    for record in records:
        path = pathlib.PurePosixPath(record.image)
        if path.suffix != ".jpg":
            raise ValueError(f"{record.where}: official ground truth holds .jpg images. Received: {record.image!r}")
        events[str(path.parent)].append((path.stem, record))
    boxes = {event: [_rows(record) for _, record in images] for event, images in events.items()}
    face = {
        "event_list": _cells(list(events)),
        "file_list": _cells([_cells([name for name, _ in images]) for images in events.values()]),
        "face_bbx_list": _cells([_cells(rows) for rows in boxes.values()]),
    }
    files = {"wider_face_val.mat": face}
    for subset, height in HEIGHTS.items():
        kept = [[_kept(record, height) for _, record in images] for images in events.values()]
        files[f"wider_{subset}_val.mat"] = {"gt_list": _cells([_cells(event) for event in kept])}
    return files


def _rows(record: record_lib.Record) -> np.ndarray:
    """Returns x, y, width, height a face; one row of zeros where there is none, as the official files have it."""
    boxes = record.boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1) if len(boxes) else np.zeros((1, 4))


def _kept(record: record_lib.Record, height: float) -> np.ndarray:
    heights = record.boxes[:, 3] - record.boxes[:, 1]
    return np.flatnonzero((heights > height) & ~record.is_ignored)[:, None] + 1.0  # rows count from 1


def _cells(values: Sequence) -> np.ndarray:
    """Returns a MATLAB cell array of one column."""
    cells = np.empty((len(values), 1), object)
    for index, value in enumerate(values):
        cells[index, 0] = value
    return cells


def write(annotations: str, output: pathlib.Path, share: float) -> None:
    """Splits a file and writes everything.

    Raises:
        ValueError: if the share is not between 0 and 1, the file has a fault, or a part would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"--share must be between 0 and 1. Received: {share}")
    records = wider_face.read(annotations)
    held_out = [record for record in records if is_held_out(record.image, share)]
    if not 0 < len(held_out) < len(records):
        raise ValueError(
            f"{annotations}: {len(held_out)} of {len(records)} images would be set aside, give more images"
        )
    files = ground_truth(held_out)
    (output / "ground_truth").mkdir(parents=True, exist_ok=True)
    for name, text in zip(("train.txt", "held_out.txt"), split_lines(annotations, records, share)):
        with atomic.file(output / name) as partial:
            partial.write_text(text, encoding="utf-8", errors="surrogateescape")
    for name, contents in files.items():
        with atomic.file(output / "ground_truth" / name) as partial:
            scipy.io.savemat(partial, contents, do_compression=True)
    totals, counts = (
        collections.Counter(str(pathlib.PurePosixPath(record.image).parent) for record in part)
        for part in (records, held_out)
    )
    for event, total in sorted(totals.items()):
        logging.info("%s: %d of %d images set aside", event, counts[event], total)
    logging.info("%d of %d images set aside; wrote %s", len(held_out), len(records), output)


def main(argv):
    """Splits and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    try:
        write(_ANNOTATIONS.value, pathlib.Path(_OUTPUT.value), _SHARE.value)
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    program.run(main)
