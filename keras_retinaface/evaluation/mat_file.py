"""Reads numbers, texts and cells from MATLAB 5 files; every size is checked, where SciPy's reader may leave memory.

Structures, sparse arrays and objects are passed over unless they are asked for; HDF5 (`-v7.3`) is not read.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Collection

import numpy as np

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_INT8, _INT32, _UINT32 = 1, 5, 6
# By the number of the type of a data element.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {2: "utf-8", 16: "utf-8", 4: "utf-16", 17: "utf-16", 1: "latin-1", 18: "utf-32"}
_CELL, _CHAR = 1, 4
_NUMERIC = range(6, 16)
_IS_COMPLEX = 0x0800
# The official ground truth has 1.6 MB in all and 60,000 arrays a file; a small damaged file must not ask for more.
_MOST_BYTES, _MOST_ARRAYS, _MOST_DEEP, _MOST_DIMENSIONS = 1 << 28, 1 << 20, 16, 8


def read(path: str | os.PathLike, names: Collection[str]) -> dict[str, np.ndarray]:
    """Reads some variables of a file.

    Args:
        path: path of the file.
        names: names of the variables; those that the file has not are left out.

    Returns:
        By name: numbers as an array in the file's type, cells as an array of objects, both with the shape that MATLAB
        shows, and a text as an array of one str.

    Raises:
        ValueError: if the file is no such file or is damaged; names it.
    """
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    try:
        return _File(content, frozenset(names)).read()
    except _Damage as error:
        raise ValueError(f"{path}: expected a whole MATLAB 5 file. Received: {error}") from None


class _Damage(Exception):
    """What is wrong with a file."""


class _File:
    """Walks over the elements of one file."""

    def __init__(self, content: bytes, names: frozenset[str]):
        if len(content) > _MOST_BYTES:
            raise _Damage(f"over {_MOST_BYTES} bytes")
        if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
            raise _Damage(f"{len(content)} bytes without its header")
        self._order = "<" if content[126:128] == b"IM" else ">"
        self._tag = struct.Struct(self._order + "II")
        version = struct.unpack_from(self._order + "H", content, 124)[0]
        if version != 0x0100:
            raise _Damage(f"version {version:#x}")
        self._content, self._names = content, names
        self._num_bytes = self._num_arrays = 0

    def read(self) -> dict[str, np.ndarray]:
        found, position = {}, _HEADER
        while position < len(self._content):
            kind, data, position = self._element(self._content, position, is_padded=False)
            if kind == _COMPRESSED:
                kind, data, end = self._element(self._inflate(data), 0, is_padded=False)
            if kind != _MATRIX:
                raise _Damage(f"an element of type {kind} where an array is due")
            name, value = self._matrix(data, 0)
            if name in self._names:
                found[name] = value
        return found

    def _inflate(self, data: bytes) -> bytes:
        # Whole, checksum included, and never more than is left of what a file may hold.
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(data, _MOST_BYTES - self._num_bytes)
        except zlib.error as error:
            raise _Damage(str(error)) from None
        self._num_bytes += len(plain)
        if not inflater.eof or self._num_bytes >= _MOST_BYTES:
            raise _Damage("compressed data that is cut off, or too long")
        return plain

    def _element(self, content: bytes, position: int, *, is_padded: bool = True) -> tuple[int, bytes, int]:
        """Returns type and data of the element at a position, and where the next begins."""
        if position + 8 > len(content):
            raise _Damage(f"an end within the tag at byte {position}")
        kind, size = self._tag.unpack_from(content, position)
        if kind >> 16:  # a small one: size and type share a word, the data is the other
            kind, size, start, end = kind & 0xFFFF, kind >> 16, position + 4, position + 8
            if size > 4:
                raise _Damage(f"{size} bytes in a small element at byte {position}")
        else:
            start = position + 8
            end = start + (size + 7) // 8 * 8 if is_padded else start + size
        if start + size > len(content):
            raise _Damage(f"{size} bytes announced at byte {position} of {len(content)}")
        return kind, content[start : start + size], end

    def _matrix(self, data: bytes, depth: int) -> tuple[str, np.ndarray | None]:
        """Returns name and value of an array, None for a variable that nobody asked for."""
        self._num_arrays += 1
        if depth > _MOST_DEEP or self._num_arrays > _MOST_ARRAYS:
            raise _Damage("cells too deep, or too many arrays")
        if not data:  # an empty cell
            return "", np.zeros((0, 0))
        kind, flags, position = self._element(data, 0)
        if kind != _UINT32 or len(flags) != 8:
            raise _Damage("an array without its flags")
        flag = self._tag.unpack(flags)[0]
        kind, dimensions, position = self._element(data, position)
        if kind != _INT32 or len(dimensions) % 4 or not 8 <= len(dimensions) <= 4 * _MOST_DIMENSIONS:
            raise _Damage("an array without its dimensions")
        shape = struct.unpack(f"{self._order}{len(dimensions) // 4}i", dimensions)
        if min(shape) < 0 or math.prod(shape) > _MOST_BYTES:
            raise _Damage(f"an array of {shape}")
        kind, name, position = self._element(data, position)
        if kind != _INT8:
            raise _Damage("an array without its name")
        name = name.decode("latin-1")
        if depth == 0 and name not in self._names:
            return name, None
        return name, self._value(data, position, flag, shape, depth)

    def _value(self, data: bytes, position: int, flag: int, shape: tuple[int, ...], depth: int) -> np.ndarray:
        kind_of_array, count = flag & 0xFF, math.prod(shape)
        if kind_of_array == _CELL:
            if 8 * count > len(data):  # each has a tag at least
                raise _Damage(f"{len(data)} bytes for {count} cells")
            cells = np.empty(count, object)
            for index in range(count):
                kind, inner, position = self._element(data, position)
                if kind != _MATRIX:
                    raise _Damage(f"an element of type {kind} where a cell is due")
                cells[index] = self._matrix(inner, depth + 1)[1]
            return cells.reshape(shape, order="F")
        if kind_of_array == _CHAR:
            return np.array([self._text(data, position)])
        if kind_of_array not in _NUMERIC or flag & _IS_COMPLEX:
            raise _Damage(f"an array of class {kind_of_array} where numbers, text or cells are due")
        kind, numbers, _ = self._element(data, position)
        dtype = np.dtype(self._order + _TYPES.get(kind, "V1"))
        if dtype.kind == "V" or len(numbers) != count * dtype.itemsize:
            raise _Damage(f"{len(numbers)} bytes of type {kind} for an array of {shape}")
        return np.frombuffer(numbers, dtype).reshape(shape, order="F").astype(dtype.newbyteorder("="))

    def _text(self, data: bytes, position: int) -> str:
        kind, letters, _ = self._element(data, position)
        encoding = _ENCODINGS.get(kind)
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        try:
            return letters.decode(encoding or "latin-1")
        except UnicodeDecodeError:
            raise _Damage("text in no encoding") from None
