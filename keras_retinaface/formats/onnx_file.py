"""Reads what an ONNX file is made of, and seals it with a checksum, without the onnx package; runs nothing of it."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Iterator

# Field numbers of onnx.proto3, which never change.
_MODEL = {"ir": 1, "graph": 7, "opsets": 8, "metadata": 14, "training": 20, "functions": 25}
_GRAPH = {"nodes": 1, "initializers": 5, "inputs": 11, "outputs": 12, "sparse": 15}
_EXTERNAL = 1
TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
# What exports are called in their metadata; those have a checksum.
NAME = "RetinaFace"
_CHECKSUM = "checksum"
_DEEPEST = 4  # graphs inside graphs
# What reading damaged bytes raises.
DAMAGE = (ValueError, IndexError, struct.error, UnicodeDecodeError)


@dataclasses.dataclass(frozen=True)
class Value:
    """An input or output: `dtype` by the names of `TYPES`, `shape` of numbers and names ("" for none)."""

    dtype: str
    shape: tuple[int | str, ...]


@dataclasses.dataclass
class Parts:
    """What a file holds.

    Attributes:
        inputs: inputs by name, those with a default value too.
        outputs: outputs by name.
        defaults: names of initializers that are inputs.
        operators: (domain, operator) of every node, in branches too.
        domains: domains of operator sets.
        has_functions: whether operators are defined by the file.
        has_external: whether a tensor lies in another file.
        metadata: texts by key.
    """

    inputs: dict[str, Value] = dataclasses.field(default_factory=dict)
    outputs: dict[str, Value] = dataclasses.field(default_factory=dict)
    defaults: set[str] = dataclasses.field(default_factory=set)
    operators: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    domains: set[str] = dataclasses.field(default_factory=set)
    has_functions: bool = False
    has_external: bool = False
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


def seal(content: bytes) -> bytes:
    """Adds a checksum of everything before it, as the last entry of the metadata."""
    entry = _field(1, _CHECKSUM.encode()) + _field(2, hashlib.sha256(content).hexdigest().encode())
    return content + _field(_MODEL["metadata"], entry)


def check_seal(content: bytes) -> bool:
    """Returns whether a file has a checksum.

    Raises:
        ValueError: if it has one and is not what was sealed.
    """
    length = len(seal(b""))
    start = content[-length:]
    if start[: length - 64] != seal(b"")[:-64]:
        return False
    if seal(content[:-length]) != content:
        raise ValueError("damaged: its checksum is another")
    return True


def read(content: bytes) -> Parts:
    """Reads the parts of a file.

    Raises:
        ValueError, or another of `DAMAGE`: if it is no ONNX file.
    """
    parts, has_graph, view = Parts(), False, memoryview(content)
    for number, value in _fields(view):
        if number == _MODEL["graph"]:
            has_graph = True
            _read_graph(value, parts, 0)
        elif number == _MODEL["opsets"]:
            parts.domains.add(_text(_get(value, 1, b"")))
        elif number == _MODEL["metadata"]:
            parts.metadata[_text(_get(value, 1, b""))] = _text(_get(value, 2, b""))
        elif number in (_MODEL["training"], _MODEL["functions"]):
            parts.has_functions = True
    if not has_graph or not parts.domains:
        raise ValueError("not an ONNX file")
    return parts


def _read_graph(graph, parts: Parts, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"damaged: branches inside branches, more than {_DEEPEST} deep")
    constants = set()
    for number, value in _fields(graph):
        if number == _GRAPH["nodes"]:
            _read_node(value, parts, depth)
        elif number == _GRAPH["initializers"]:
            constants.add(_text(_get(value, 8, b"")))
            parts.has_external |= _is_external(value)
        elif number == _GRAPH["sparse"]:
            raise ValueError("it has sparse tensors, which no export of ours has")
        elif number == _GRAPH["inputs"] and not depth:
            name, described = _value(value)
            parts.inputs[name] = described
        elif number == _GRAPH["outputs"] and not depth:
            name, described = _value(value)
            parts.outputs[name] = described
    if not depth:
        parts.defaults = constants & set(parts.inputs)


def _read_node(node, parts: Parts, depth: int) -> None:
    domain = operator = ""
    for number, value in _fields(node):
        if number == 7:
            domain = _text(value)
        elif number == 4:
            operator = _text(value)
        elif number == 5:
            for inner, part in _fields(value):
                if inner in (5, 10):  # a tensor, or several
                    parts.has_external |= _is_external(part)
                elif inner in (6, 11):  # a graph, or several
                    _read_graph(part, parts, depth + 1)
                elif inner in (22, 23):
                    raise ValueError("it has sparse tensors, which no export of ours has")
    parts.operators.add((domain, operator))


def _is_external(tensor) -> bool:
    return any(number == 13 or (number == 14 and value == _EXTERNAL) for number, value in _fields(tensor))


def _value(info) -> tuple[str, Value]:
    name = _text(_get(info, 1, b""))
    tensor = _get(_get(info, 2, b""), 1, b"")
    shape = []
    for number, dimension in _fields(_get(tensor, 2, b"")):
        if number == 1:
            length, text = _get(dimension, 1, None), _get(dimension, 2, b"")
            shape.append(_text(text) if length is None else length)
    return name, Value(TYPES.get(_get(tensor, 1, 0), "unknown"), tuple(shape))


def _get(message, wanted: int, default):
    found = default
    for number, value in _fields(message):
        if number == wanted:
            found = value
    return found


def _text(value) -> str:
    return bytes(value).decode("utf-8")


def _fields(message) -> Iterator[tuple[int, object]]:
    """Yields number and value of each field of a protobuf message: whole numbers, or bytes that are not copied."""
    if isinstance(message, int):
        raise ValueError("damaged: a number where a message should be")
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
        elif kind in (1, 5):
            value, place = b"", place + (8 if kind == 1 else 4)
        elif kind == 2:
            length, place = _varint(message, place)
            value, place = message[place : place + length], place + length
        else:
            raise ValueError("not an ONNX file")
        if place > end:
            raise ValueError("damaged: it ends too early")
        yield key >> 3, value


def _varint(message, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7
        if shift > 63:
            raise ValueError("damaged: a number of too many bytes")


def _field(number: int, value: bytes) -> bytes:
    key, length = number << 3 | 2, len(value)
    return bytes([*_bytes(key), *_bytes(length)]) + value


def _bytes(number: int) -> Iterator[int]:
    while number > 127:
        yield number & 127 | 128
        number >>= 7
    yield number
