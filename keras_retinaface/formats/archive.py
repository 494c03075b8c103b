"""Reads zip archives of files from elsewhere: every byte is checked, and none is unpacked before its size is known."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

# What a member may unpack to, whatever its size in the file, and beyond that how many times the size of the file.
_ALWAYS_ALLOWED = 64 << 20
_MOST_GROWTH = 100
_MOST_MEMBERS = 60_000  # beyond, archives count in another way
# The record at the end of an archive and the comment that may follow.
_LONGEST_END = 22 + 65535
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# All that reading a damaged archive has been seen to raise; RuntimeError is an encrypted member.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
)


def members(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Reads the members of an archive one after the other, each whole.

    Args:
        file: the archive, open for reading bytes.

    Yields:
        Name and content.

    Raises:
        DAMAGE: any of these, if the archive is damaged, holds a name twice, is packed in a way that models are not, or
            unpacks to far more than its own size.
    """
    size = file.seek(0, 2)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_MEMBERS or len({entry.filename for entry in entries}) < len(entries):
            raise ValueError(f"a name stands twice in it, or it has too many: {len(entries)}")
        if len(entries) != _num_entries(file, size):
            raise ValueError(f"its directory is damaged: {len(entries)} entries")
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > _ALWAYS_ALLOWED + _MOST_GROWTH * size:
            raise ValueError(f"{size} bytes claim to unpack to {unpacked}")
        for entry in entries:
            if entry.compress_type not in _METHODS or entry.flag_bits & 1:
                raise ValueError(f"{entry.filename} is encrypted or packed in another way than models are")
            with archive.open(entry) as member:
                content = member.read(entry.file_size)
            if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
                raise ValueError(f"{entry.filename} is damaged")
            yield entry.filename, content


def _num_entries(file: BinaryIO, size: int) -> int:
    """Returns how many members the end of an archive counts: a damaged directory may hide some."""
    length = min(size, _LONGEST_END)
    file.seek(size - length)
    end = file.read(length)
    place = end.rfind(b"PK\x05\x06")
    return struct.unpack_from("<H", end, place + 10)[0]
