"""TFRecord files: names, and how many records each holds, without reading them; no TensorFlow here."""

from __future__ import annotations

import os
import struct

from data_pipeline import record as record_lib

# Length (8), its checksum (4), the record, its checksum (4).
_HEADER, _FRAME = 8, 16


def name(prefix: str, index: int, num_shards: int) -> str:
    """Returns the path of a shard, as TensorFlow tools write it."""
    return f"{prefix}-{index:05d}-of-{num_shards:05d}.tfrecord"


def count(path: str, bad_data: record_lib.BadData) -> int:
    """Counts the whole records of a file by hopping from header to header.

    Args:
        path: of the file.
        bad_data: what to do with a file that is cut off; when skipped, the records before the cut count.

    Returns:
        The number of records.
    """
    size, offset, num_records = os.path.getsize(path), 0, 0
    with open(path, "rb") as file:
        while offset < size:
            header = file.read(_HEADER)
            (length,) = struct.unpack("<Q", header) if len(header) == _HEADER else (size,)
            end = offset + _FRAME + length
            if end > size:
                bad_data.add(
                    f"{path}: record {num_records}", f"{length} bytes from {offset}", f"a file that ends at {size}"
                )
                bad_data.num_skipped += 1
                break
            offset, num_records = end, num_records + 1
            file.seek(offset)
    return num_records
