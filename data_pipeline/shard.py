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
    """Whole records: all up to the first fault of a file, or one behind it.

    Attributes:
        count: records from the start of the file; zero for one behind a fault.
        before: bytes of the file before that one.
        length: bytes of that one.
        behind: bytes of the file behind that one.
    """

    count: int
    before: int = 0
    length: int = 0
    behind: int = 0

    @property
    def num_records(self) -> int:
        """How many it is."""
        return self.count or 1


def name(prefix: str, index: int, num_shards: int) -> str:
    """Returns the path of a shard, as TensorFlow tools write it."""
    return f"{prefix}-{index:05d}-of-{num_shards:05d}.tfrecord"


def find_runs(path: str, bad_data: record_lib.BadData) -> list[Run]:
    """Finds the whole records of a file by reading all of it once and comparing checksums.

    Args:
        path: path of the file.
        bad_data: what to do with a record that is damaged or cut off; when skipped, the runs go on behind it as long as
            its length can be believed.

    Returns:
        The runs; one for a file without damage, none for one without records.
    """
    num_first, singles, is_damaged, offset, num_records = 0, [], False, 0, 0
    size = os.path.getsize(path)
    reader = tf_record.tf_record_random_reader(path)
    with open(path, "rb") as file:
        while offset < size:
            try:
                record, end = reader.read(offset)
                if is_damaged:
                    singles.append(Run(0, end - 4 - len(record), len(record), size - end + 4))
                num_first += not is_damaged
            except (tf.errors.OpError, IndexError, ValueError):
                end = _behind(file, offset, size, f"{path}: record {num_records}", bad_data)
                is_damaged = True
            offset, num_records = end, num_records + 1
    return [Run(num_first), *singles] if num_first else singles


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
