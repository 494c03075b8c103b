"""TFRecord files: names, and where their whole records lie."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

import tensorflow as tf
from tensorflow.python.lib.io import tf_record

from data_pipeline import record as record_lib

# Length (8), its checksum (4), the record, its checksum (4).
_HEADER, _FRAME = 8, 16


class Run(NamedTuple):
    """Whole records that follow each other.

    Attributes:
        offset: byte in the file at which the first one starts.
        count: records.
    """

    offset: int
    count: int


def name(prefix: str, index: int, num_shards: int) -> str:
    """Returns the path of a shard, as TensorFlow tools write it."""
    return f"{prefix}-{index:05d}-of-{num_shards:05d}.tfrecord"


def count(path: str, bad_data: record_lib.BadData) -> int:
    """Counts the whole records of a file; arguments as for `find_runs`."""
    return sum(run.count for run in find_runs(path, bad_data))


def find_runs(path: str, bad_data: record_lib.BadData) -> list[Run]:
    """Finds the whole records of a file by reading all of it once and comparing checksums.

    Args:
        path: of the file.
        bad_data: what to do with a record that is damaged or cut off; when skipped, the runs go on behind it as long as
            its length can be believed.

    Returns:
        The runs; one for a file without damage, none for one without records.
    """
    runs, start, num_good, offset, num_records = [], 0, 0, 0, 0
    size = os.path.getsize(path)
    reader = tf_record.tf_record_random_reader(path)
    with open(path, "rb") as file:
        while offset < size:
            try:
                _, end = reader.read(offset)
                offset, num_good = end, num_good + 1
            except (tf.errors.OpError, IndexError, ValueError):
                if num_good:
                    runs.append(Run(start, num_good))
                offset = _behind(file, offset, size, f"{path}: record {num_records}", bad_data)
                start, num_good = offset, 0
            num_records += 1
    return [*runs, Run(start, num_good)] if num_good else runs


def _behind(file, offset: int, size: int, where: str, bad_data: record_lib.BadData) -> int:
    """Takes note of a damaged record and returns where the next one starts; the file's end if nobody knows."""
    file.seek(offset)
    header = file.read(_HEADER)
    (length,) = struct.unpack("<Q", header) if len(header) == _HEADER else (size,)
    end = offset + _FRAME + length
    if end > size:
        bad_data.add(where, f"{length} bytes from {offset}", f"a file that ends at {size}")
        end = size
    else:
        bad_data.add(where, f"{length} bytes from {offset} of which the checksum is right", "another checksum")
    bad_data.num_skipped += 1
    return end
