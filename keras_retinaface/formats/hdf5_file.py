"""Reads the arrays of HDF5 files as Keras writes them: plain numbers in folders, and nothing else of what HDF5 can do.

Not by the HDF5 library: that one follows links to other files, and damaged files can end the process.
"""

from __future__ import annotations

import math

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Kinds of messages in the header of an object.
_SPACE, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS, _CONTINUED, _TABLE = 1, 3, 6, 7, 8, 11, 16, 17
_FLOAT, _INTEGER = 1, 0
_CONTIGUOUS, _COMPACT = 1, 0
_HARD_LINKS = (0, 1)
_MOST_OBJECTS, _DEEPEST = 100_000, 16


def read(content: bytes) -> dict[str, np.ndarray]:
    """Reads every array of a file.

    Args:
        content: bytes of the file.

    Returns:
        Arrays by path, `layers/conv2d/vars/0`.

    Raises:
        ValueError: if the file is damaged or holds anything but arrays of numbers in folders; links, compression and
            data that lie elsewhere are refused.
    """
    if content[:8] != SIGNATURE or content[8:9] != b"\0" or content[13:15] != b"\x08\x08":
        raise ValueError("no HDF5 file as Keras writes it")
    reader = _Reader(content)
    reader.visit(reader.number(64, 8), "", 0)
    return reader.arrays


class _Reader:
    def __init__(self, content: bytes):
        self._content = content
        self._seen: set[int] = set()
        self._num_taken = 0
        self.arrays: dict[str, np.ndarray] = {}

    def number(self, place: int, size: int) -> int:
        return int.from_bytes(self._bytes(place, size), "little")

    def _bytes(self, place: int, size: int) -> bytes:
        if not 0 <= place <= place + size <= len(self._content):
            raise ValueError(f"byte {place} lies outside")
        return self._content[place : place + size]

    def _enter(self, place: int, signature: bytes = b"") -> None:
        """Notes that a part of the file is read, which happens once in a file that is whole."""
        if place in self._seen or len(self._seen) > _MOST_OBJECTS or self._bytes(place, len(signature)) != signature:
            raise ValueError(f"the object at byte {place} is damaged")
        self._seen.add(place)

    def visit(self, place: int, path: str, depth: int) -> None:
        """Reads the folder or array whose header is at `place`."""
        if depth > _DEEPEST:
            raise ValueError(f"{path}: too deep")
        messages = self._messages(place)
        if refused := {_LINK, _EXTERNAL, _FILTERS} & messages.keys():
            raise ValueError(f"{path}: links, compression or data of another file ({sorted(refused)})")
        if _TABLE in messages:
            start, _ = messages[_TABLE]
            for name, child in self._children(self.number(start, 8), self.number(start + 8, 8)):
                self.visit(child, f"{path}/{name}" if path else name, depth + 1)
        elif {_SPACE, _TYPE, _LAYOUT} <= messages.keys():
            self.arrays[path] = self._array(path, *(messages[kind] for kind in (_SPACE, _TYPE, _LAYOUT)))
        else:
            raise ValueError(f"{path}: neither a folder nor an array as Keras writes them")

    def _messages(self, place: int) -> dict[int, tuple[int, int]]:
        """Returns where the messages of an object's header lie, (start, size) by kind."""
        self._enter(place, b"\x01")
        count, blocks, found = self.number(place + 2, 2), [(place + 16, self.number(place + 8, 4))], {}
        while blocks and count:
            start, size = blocks.pop(0)
            self._bytes(start, size)
            end = start + size
            while start + 8 <= end and count:
                kind, length = self.number(start, 2), self.number(start + 2, 2)
                if start + 8 + length > end or (kind in found and kind in (_SPACE, _TYPE, _LAYOUT, _TABLE)):
                    raise ValueError(f"the object at byte {place} is damaged")
                found[kind] = (start + 8, length)
                if kind == _CONTINUED:
                    blocks.append((self.number(start + 8, 8), self.number(start + 16, 8)))
                start, count = start + 8 + length, count - 1
        return found

    def _children(self, tree: int, heap: int):
        """Yields (name, place of the header) of what a folder holds."""
        if self._bytes(heap, 4) != b"HEAP":
            raise ValueError(f"the names at byte {heap} are damaged")
        names, size = self.number(heap + 24, 8), self.number(heap + 8, 8)
        text = self._bytes(names, size)
        for table in self._leaves(tree, 0):
            self._enter(table, b"SNOD")
            for index in range(self.number(table + 6, 2)):
                entry = table + 8 + 40 * index
                name = text[self.number(entry, 8) :].split(b"\0", 1)[0].decode("utf-8")
                if not name or "/" in name or self.number(entry + 16, 4) not in _HARD_LINKS:
                    raise ValueError(f"{name!r} is a link or no name")
                yield name, self.number(entry + 8, 8)

    def _leaves(self, tree: int, depth: int):
        """Yields the places of the tables under a node of a tree."""
        self._enter(tree, b"TREE\0")
        level, count = self.number(tree + 5, 1), self.number(tree + 6, 2)
        if level + depth > _DEEPEST:
            raise ValueError(f"the folder at byte {tree} is damaged")
        for index in range(count):
            child = self.number(tree + 24 + 8 + 16 * index, 8)
            if level:
                yield from self._leaves(child, depth + 1)
            else:
                yield child

    def _array(self, path: str, space, kind, layout) -> np.ndarray:
        shape, dtype = self._shape(path, *space), self._dtype(path, *kind)
        start, _ = layout
        version, place = self.number(start, 1), self.number(start + 1, 1)
        size = math.prod(shape) * dtype.itemsize
        if version not in (3, 4) or place not in (_CONTIGUOUS, _COMPACT):
            raise ValueError(f"{path}: not stored in one piece")
        if place == _COMPACT:
            data, length = start + 4, self.number(start + 2, 2)
        else:
            data, length = self.number(start + 2, 8), self.number(start + 10, 8)
        self._num_taken += size
        if length != size or self._num_taken > len(self._content):
            raise ValueError(f"{path}: expected {shape} of {dtype}. Received: {length} bytes")
        content = self._bytes(data, size) if size else b""
        return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)

    def _shape(self, path: str, start: int, length: int) -> tuple[int, ...]:
        version, rank = self.number(start, 1), self.number(start + 1, 1)
        if version not in (1, 2) or (version == 2 and self.number(start + 3, 1) not in (0, 1)):
            raise ValueError(f"{path}: the shape is damaged")
        first = start + (8 if version == 1 else 4)
        if rank > 8 or first + 8 * rank > start + length:
            raise ValueError(f"{path}: the shape is damaged")
        return tuple(self.number(first + 8 * axis, 8) for axis in range(rank))

    def _dtype(self, path: str, start: int, length: int) -> np.dtype:
        kind, bits, size = self.number(start, 1) & 15, self.number(start + 1, 1), self.number(start + 4, 4)
        if kind == _FLOAT and size in (2, 4, 8) and length >= 20:
            # Sign, exponent and fraction must lie as IEEE 754 has them, the exponent's bias included.
            exponent = {2: 5, 4: 8, 8: 11}[size]
            fraction = 8 * size - exponent - 1
            wanted = (0, 8 * size, fraction, exponent, 0, fraction, (1 << (exponent - 1)) - 1)
            sizes = ((8, 2), (10, 2), (12, 1), (13, 1), (14, 1), (15, 1), (16, 4))
            if tuple(self.number(start + place, width) for place, width in sizes) == wanted:
                return np.dtype(f"{'>' if bits & 1 else '<'}f{size}")
        elif kind == _INTEGER and size in (1, 2, 4, 8):
            return np.dtype(f"{'>' if bits & 1 else '<'}{'i' if bits & 8 else 'u'}{size}")
        raise ValueError(f"{path}: expected numbers. Received: HDF5 type {kind} of {size} bytes")
