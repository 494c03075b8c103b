"""Finds image files that would stop a run in its middle, before it starts; no TensorFlow here."""

from __future__ import annotations

import os
from concurrent import futures

import numpy as np
from absl import logging

from data_pipeline import plausibility
from data_pipeline import record as record_lib
from keras_retinaface.media import image_file

# The last bytes of a whole file; formats without such a mark are decoded. MPO is what some cameras' JPEGs hold.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";", "BMP": None}


def check(images: str, records: list[record_lib.Record], bad_data: record_lib.BadData) -> list[record_lib.Record]:
    """Leaves out records whose image is missing, unreadable or cut off; boxes outside their image become ignored.

    Only headers and ends of files are read, some thousands a second; a file that does not end as its format does is
    decoded to be sure. What only decoding shows is found in the middle of the run. Sizes that annotations say are
    compared.

    Args:
        images: folder that the records' names start from.
        records: records of any reader.
        bad_data: what to do with a faulty image.

    Returns:
        The good records. How many faces lie outside their image, or have no area, is logged.
    """
    if not os.path.isdir(images or ""):
        raise ValueError(f"`images` must be a folder. Received: images={images!r}")
    paths = [os.path.join(images, record.image) for record in records]
    kept, sizes, num_outside = [], [], 0
    with futures.ThreadPoolExecutor() as pool:
        for record, path, (size, fault) in zip(records, paths, pool.map(inspect, paths)):
            expected = "a whole image"
            if not fault and record.size is not None and tuple(size) != tuple(record.size):
                expected, fault = _other_size(record.size, size)
            if fault:
                bad_data.add(f"{record.where}: {path}" if record.where else path, expected, fault)
                bad_data.num_skipped += 1
                continue
            is_outside = (record.boxes[:, :2] >= size).any(axis=1) | (record.boxes[:, 2:] <= 0).any(axis=1)
            num_outside += int((is_outside & ~record.is_ignored).sum())
            record.is_ignored[is_outside] = True
            kept.append(record)
            sizes.append(size)
    plausibility.check(kept, sizes)
    num_empty = sum(int((r.boxes[:, 2:] <= r.boxes[:, :2]).any(axis=1).sum()) for r in kept)
    if num_outside or num_empty:
        logging.warning("ignoring %d faces outside their image and %d without area", num_outside, num_empty)
    return kept


def inspect(path: str) -> tuple[np.ndarray, str]:
    """Returns an upright image's (width, height) and what is wrong with the file, an empty string if nothing is."""
    none = np.zeros(2)
    if not os.path.isfile(path):
        return none, "no such file"
    try:
        header = image_file.read_header(path, "")
        if header.format not in _ENDS:
            return none, f"a {header.format} file; {', '.join(_ENDS)} can be read"
        if not _has_end(path, _ENDS[header.format]):
            image_file.read(path)
    except (image_file.ImageError, OSError) as error:
        return none, f"{os.path.getsize(path)} bytes: {str(error).split(': ', 1)[-1]}"
    return np.array([header.width, header.height]), ""


def _has_end(path: str, end: bytes | None) -> bool:
    with open(path, "rb") as file:
        file.seek(-len(end or b""), os.SEEK_END)
        return file.read() == end


def _other_size(said: tuple[int, int], size: np.ndarray) -> tuple[str, str]:
    """Returns what was expected and what came, of an image of another (width, height) than its annotation says."""
    width, height = (int(side) for side in size)
    is_turned = tuple(said) == (height, width)
    why = (
        " upright (the annotations were made on the picture before its EXIF orientation turned it)" if is_turned else ""
    )
    return f"an image of {said[0]} x {said[1]} pixels as annotated", f"{width} x {height}{why}"
