"""Reads from an MP4 or MOV file how its pictures are to be turned and mirrored, which OpenCV tells of turns alone."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import cv2
import numpy as np

# Boxes that lead to the matrix and to the kind of a track.
_FOLDERS = (b"moov", b"trak", b"mdia")
_DEEPEST, _MOST_BOXES = 4, 10_000
# Where a header of a track has its matrix, by the header's version; and the places of a, b, c, d in it.
_MATRIX, _PARTS = {0: 40, 1: 52}, (0, 1, 3, 4)
_UNIT = 1 << 16


def read(path: str | os.PathLike) -> tuple[int, int, int, int] | None:
    """Reads the matrix of a film's first video track.

    Args:
        path: path of a file of any kind.

    Returns:
        a, b, c, d, each -1, 0 or 1: a point (x, y) of the picture is shown at (ax + cy, bx + dy), moved to where the
        picture begins. None where the file has none, or one that turns by other angles or scales.
    """
    try:
        with open(path, "rb") as file:
            return _of_tracks(_boxes(file, 0, file.seek(0, os.SEEK_END), 0))
    except (OSError, struct.error, ValueError, IndexError):
        return None


def is_mirrored(matrix: tuple[int, int, int, int]) -> bool:
    """Returns whether a matrix of `read` shows left and right exchanged, turned or not."""
    a, b, c, d = matrix
    return a * d - b * c < 0


def show(frame: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turns and mirrors a frame `[H, W, C]` by a matrix of `read`."""
    a, b, c, d = matrix
    if b:  # x is shown along y
        frame = cv2.transpose(frame)
    # What still runs backwards along x and along y.
    is_backwards = (a + c < 0, b + d < 0)
    if not any(is_backwards):
        return frame
    return cv2.flip(frame, -1 if all(is_backwards) else 1 if is_backwards[0] else 0)


def _of_tracks(boxes: Iterator[tuple[bytes, bytes]]) -> tuple[int, int, int, int] | None:
    """Returns the matrix of the first track whose handler is of video."""
    matrix = None
    for kind, content in boxes:
        if kind == b"tkhd":
            place = _MATRIX[content[0]] if content[0] in _MATRIX else len(content)
            numbers = struct.unpack_from(">9i", content, place)
            matrix = tuple(numbers[part] for part in _PARTS)
        elif kind == b"hdlr" and content[8:12] == b"vide" and matrix is not None:
            units = tuple(round(number / _UNIT) for number in matrix)
            a, b, c, d = units
            is_whole = all(unit * _UNIT == number for unit, number in zip(units, matrix))
            is_turn = abs(a * d - b * c) == 1 and abs(a) + abs(b) == 1
            return units if is_whole and is_turn else None
    return None


def _boxes(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the headers of tracks and their handlers in the order of the file; reads no pictures."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            header, (size,) = 16, struct.unpack(">Q", file.read(8))
        stop = end if size == 0 else min(start + size, end)
        if stop < start + header:
            return
        if kind in _FOLDERS and depth < _DEEPEST:
            yield from _boxes(file, start + header, stop, depth + 1)
        elif kind in (b"tkhd", b"hdlr"):
            yield kind, file.read(min(stop - start - header, 256))
        start = stop
