"""Reads `.npz` files of numbers and names from anywhere. Nothing in them is run, and damage is an error of one kind."""

from __future__ import annotations

import math
import os
import re
from typing import BinaryIO

import numpy as np

from keras_retinaface.formats import archive

_MAGIC = b"\x93NUMPY"
# Bytes of the length of the header, by the format's version.
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
_LONGEST_HEADER = 1 << 16
# Booleans, numbers and text, of fixed size. No objects, which are programs.
_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[SU]\d{1,6})")
_FIELDS = (
    ("descr", re.compile(r"""'descr'\s*:\s*'([^']*)'\s*,?""")),
    ("fortran_order", re.compile(r"""'fortran_order'\s*:\s*(True|False)\s*,?""")),
    ("shape", re.compile(r"""'shape'\s*:\s*\(([\d,L\s]*)\)\s*,?""")),
)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged, no `.npz`, or holds anything but numbers and text.
    """
    with open(path, "rb") as file:
        return read_open(file, str(path))


def read_open(file: BinaryIO, source: str) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz` that is open; `source` names it in errors, which are as of `read`."""
    try:
        arrays = {}
        for name, content in archive.members(file):
            if not name.endswith(".npy"):
                raise ValueError(f"{name} is no array")
            arrays[name[: -len(".npy")]] = _array(name, content)
        return arrays
    except archive.DAMAGE as error:
        raise ValueError(f"{source}: not a readable .npz file: {_text(error)}") from error


def _array(name: str, content: bytes) -> np.ndarray:
    """Returns an array that its header describes to the last byte."""
    length = _LENGTH_BYTES.get(content[6]) if content[:6] == _MAGIC else None
    if length is None:
        raise ValueError(f"{name} is no array")
    start = 8 + length
    end = start + int.from_bytes(content[8:start], "little")
    if not start < end <= min(len(content), _LONGEST_HEADER):
        raise ValueError(f"{name}: the header is damaged")
    # NumPy reads the header as Python; these three fields need no such power.
    header, found = content[start:end].decode("latin-1"), {}
    for field, pattern in _FIELDS:
        matches = pattern.findall(header)
        if len(matches) != 1:
            raise ValueError(f"{name}: `{field}` of the header is damaged")
        found[field], header = matches[0], pattern.sub("", header)
    if re.sub(r"\s", "", header) != "{}" or not _TYPE.fullmatch(found["descr"]):
        raise ValueError(f"{name}: expected numbers or text. Received: {found['descr']!r}")
    sides = [side.strip().rstrip("L") for side in found["shape"].split(",") if side.strip()]
    if any(not re.fullmatch(r"[0-9]{1,18}", side) for side in sides):
        raise ValueError(f"{name}: `shape` of the header is damaged")
    shape, dtype = tuple(map(int, sides)), np.dtype(found["descr"])
    if len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(content) - end:
        raise ValueError(f"{name}: expected {shape} of {dtype}. Received: {len(content) - end} bytes")
    order = "F" if found["fortran_order"] == "True" else "C"
    # A copy: what lies in the bytes of a file can neither be changed nor stands where processors like it.
    return np.frombuffer(content, dtype, offset=end).reshape(shape, order=order).copy(order)


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
