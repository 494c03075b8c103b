"""Reads the arrays of MXNet's `.params` files: a list of arrays and a list of names, plain numbers alone."""

from __future__ import annotations

import math
import os
import pathlib
import struct

import numpy as np

_LIST, _MOST_ARRAYS, _LONGEST_NAME, _MOST_AXES = 0x112, 100_000, 1000, 8
# What an array begins with: of MXNet 1.x, of it with NumPy's shapes, of 0.11 to 0.12. Before, it began with its axes.
_DENSE, _NUMPY_SHAPE, _NO_STORAGE = 0xF993FAC9, 0xF993FACA, 0xF993FAC8
_TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 3: np.uint8, 4: np.int32, 5: np.int8, 6: np.int64}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a file.

    Args:
        path: path of the `.params` file.

    Returns:
        Arrays by name, as `arg:conv0_weight` or `aux:bn0_moving_var`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or holds anything but named dense arrays.
    """
    content = pathlib.Path(path).read_bytes()
    try:
        return _Reader(content).read()
    except (ValueError, struct.error, OverflowError) as error:
        raise ValueError(f"{path}: not a readable .params file of MXNet: {error}") from error


class _Reader:
    def __init__(self, content: bytes):
        self._content, self._place = content, 0

    def read(self) -> dict[str, np.ndarray]:
        if self._numbers("Q") != (_LIST,):
            raise ValueError("does not begin as a list of arrays")
        self._numbers("Q")  # reserved
        arrays = [self._array() for _ in range(self._count(_MOST_ARRAYS, "arrays"))]
        names = [self._name() for _ in range(self._count(_MOST_ARRAYS, "names"))]
        if len(names) != len(arrays) or len(set(names)) < len(names):
            raise ValueError(f"{len(arrays)} arrays have {len(set(names))} names")
        if self._place != len(self._content):
            raise ValueError(f"{len(self._content) - self._place} bytes too many")
        return dict(zip(names, arrays))

    def _array(self) -> np.ndarray:
        (kind,) = self._numbers("I")
        if kind in (_DENSE, _NUMPY_SHAPE):
            if self._numbers("i") != (0,):
                raise ValueError("a sparse array")
            shape = self._shape("q")
        elif kind == _NO_STORAGE:
            shape = self._shape("q")
        else:  # the number of axes itself
            self._place -= 4
            shape = self._shape("I")
        self._numbers("ii")  # the device that it lay on
        (type_number,) = self._numbers("i")
        if type_number not in _TYPES:
            raise ValueError(f"an array of an unknown type, {type_number}")
        dtype = np.dtype(_TYPES[type_number]).newbyteorder("<")
        return np.frombuffer(self._take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)

    def _shape(self, kind: str) -> tuple[int, ...]:
        (axes,) = self._numbers("I")
        if not 1 <= axes <= _MOST_AXES:
            raise ValueError(f"an array of {axes} axes")
        shape = self._numbers(f"{axes}{kind}")
        if min(shape) < 0:
            raise ValueError(f"an array of shape {shape}")
        return shape

    def _name(self) -> str:
        return self._take(self._count(_LONGEST_NAME, "letters of a name")).decode()

    def _count(self, most: int, what: str) -> int:
        (count,) = self._numbers("Q")
        if count > most:
            raise ValueError(f"{count} {what}")
        return count

    def _numbers(self, kinds: str) -> tuple[int, ...]:
        return struct.unpack(f"<{kinds}", self._take(struct.calcsize(f"<{kinds}")))

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._content) - self._place:
            raise ValueError(f"ends before byte {self._place + size}")
        self._place += size
        return self._content[self._place - size : self._place]
