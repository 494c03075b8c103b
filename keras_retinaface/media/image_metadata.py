"""Follows the skeletons of image files: takes out metadata, so that odd one does not cost the picture; counts scans.

What turns a picture upright and what its pixels need (size, palette, tables, colour transform) stays. Decodes nothing.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from typing import BinaryIO

_JPEG, _PNG, _TIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*")
# JFIF, EXIF and Adobe's colour transform stay of a JPEG's application segments.
_JPEG_KEPT = (b"JFIF\0", b"Exif\0\0", b"Adobe")
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND")
_PNG_TURNS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_WEBP_KEPT = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF")
# Baseline TIFF, predictor, tiles, JPEG tables, extra samples, sample format, YCbCr.
_TIFF_KEPT = {*range(254, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326)} | {
    *(332, 338, 339, 347),
    *range(529, 533),
}


def strip(content: bytes) -> bytes | None:
    """Takes out what the pixels do not need.

    Args:
        content: bytes of a JPEG, PNG, WebP, TIFF, AVIF or HEIC file.

    Returns:
        The file without metadata but its EXIF (AVIF, HEIC: without EXIF too, for their turn is elsewhere), or None
        where nothing is to be taken out or the file's skeleton cannot be followed.
    """
    try:
        if content.startswith(_JPEG):
            stripped = _strip_jpeg(content)
        elif content.startswith(_PNG):
            stripped = _strip_png(content)
        elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            stripped = _strip_webp(content)
        elif content.startswith(_TIFF):
            stripped = _strip_tiff(content)
        elif content[4:8] == b"ftyp":
            stripped = _strip_boxes(content)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return None if stripped == content else stripped


def count_scans(content: bytes) -> int:
    """Counts how often a JPEG's decoder goes over all its pixels.

    Args:
        content: bytes of a JPEG file.

    Returns:
        The scans of its first image; 1 where the first one holds every component of a sequential image.
    """
    num_scans, place, components = 0, 2, 0
    marker = _MARKER.search(content, place)
    while marker and marker.group()[1] != 0xD9 and marker.end() + 2 <= len(content):
        kind, start = marker.group()[1], marker.end()
        if kind in (0xC0, 0xC1):
            components = content[start + 7] if start + 7 < len(content) else 0
        if kind == 0xDA:
            num_scans += 1
            if content[start + 2 : start + 3] == bytes((components,)):
                return num_scans
        # Within a scan the next marker is the next byte that no pixels can be.
        marker = _MARKER.search(content, start + struct.unpack_from(">H", content, start)[0])
    return num_scans


def has_png_orientation(file: BinaryIO) -> bool:
    """Returns whether a PNG has a part that may say how it is to be turned; reads none of its pixels.

    Args:
        file: the PNG, open; where it stands afterwards does not matter.
    """
    place, end = len(_PNG), file.seek(0, os.SEEK_END)
    while place + 8 <= end:
        file.seek(place)
        length, name, start = struct.unpack(">I4s21s", file.read(29).ljust(29))
        if name == b"eXIf" or (name in (b"iTXt", b"tEXt", b"zTXt") and start.startswith(_PNG_TURNS)):
            return True
        place += 12 + length
    return False


def _strip_jpeg(content: bytes) -> bytes:
    kept, place = [content[:2]], 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in (0xD8, 0xDA):  # the pixels begin
            break
        end = place + 2 + struct.unpack_from(">H", content, place + 2)[0]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or content.startswith(_JPEG_KEPT, place + 4):
            kept.append(content[place:end])
        place = end
    return b"".join((*kept, content[place:]))


def _strip_png(content: bytes) -> bytes:
    kept, place = [_PNG], len(_PNG)
    while place + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if name == b"eXIf" and end <= len(content):
            body = content[place + 4 : end - 4]
            kept.append(content[place : end - 4] + struct.pack(">I", zlib.crc32(body)))
        elif name in _PNG_KEPT:
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _strip_webp(content: bytes) -> bytes:
    kept, place = [], 12
    while place + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, place)
        end = place + 8 + length + length % 2
        if name in _WEBP_KEPT:
            kept.append(content[place:end])
        place = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _strip_tiff(content: bytes) -> bytes:
    order = "<" if content[:1] == b"I" else ">"
    first = struct.unpack_from(f"{order}I", content, 4)[0]
    count = struct.unpack_from(f"{order}H", content, first)[0]
    entries = [content[first + 2 + 12 * i : first + 14 + 12 * i] for i in range(count)]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in _TIFF_KEPT]
    if len(kept) == len(entries):
        return content
    # Offsets count from the file's beginning, so the new directory goes to its end; it has no second page.
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    padding = bytes(len(content) % 2)
    start = struct.pack(f"{order}I", len(content) + len(padding))
    return content[:4] + start + content[8:] + padding + directory


def _strip_boxes(content: bytes) -> bytes:
    """Renames the items that hold EXIF, so that nobody looks into them; no offset moves."""
    place = content.find(b"meta")
    if place < 4:
        return content
    end = place - 4 + struct.unpack_from(">I", content, place - 4)[0]
    return content[:place] + content[place:end].replace(b"Exif", b"skip") + content[end:]
