"""Puts several `.tflite` models into one file that stores equal weights once, with metadata. Needs no TensorFlow.

The metadata is JSON in a buffer of the model's own metadata table, under the name `METADATA`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import struct
from collections.abc import Mapping

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

METADATA = "keras_retinaface.json"
_IDENTIFIER, _DESCRIPTION = b"TFL3", "RetinaFace"
# The file's digest stands in its own metadata; it is that of the file with zeros in this place.
_CHECKSUM, _DIGEST, _ZEROS = "checksum", "sha256:", "0" * 64
_SEAL = re.compile(rb'"checksum": "sha256:([0-9a-f]{64})"')
# What reading a damaged flatbuffer raises.
DAMAGE = (struct.error, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RecursionError)


class _Builder(flatbuffers.Builder):
    """Aligns weights to 16 bytes, as the schema asks; the generated Python code does not."""

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


def merge(models: Mapping[str, bytes], metadata: dict) -> bytes:
    """Makes one file of several models with one subgraph each.

    Args:
        models: contents of `.tflite` files by the name of the signature that each becomes.
        metadata: what the file says of itself, ready for JSON.

    Returns:
        The content of a `.tflite` file.

    Raises:
        ValueError: if a model does not have exactly one subgraph and one signature.
    """
    parts = {name: schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)) for name, content in models.items()}
    whole = schema.ModelT()
    whole.version, whole.description = 3, _DESCRIPTION
    whole.subgraphs, whole.signatureDefs, whole.operatorCodes, whole.metadata = [], [], [], []
    buffers = _Buffers()
    codes: dict = {}
    for name, part in parts.items():
        if len(part.subgraphs) != 1 or len(part.signatureDefs) != 1:
            raise ValueError(f"`models` must have one subgraph and one signature each. Received: {name!r}")
        subgraph, signature = part.subgraphs[0], part.signatureDefs[0]
        for tensor in subgraph.tensors:
            tensor.buffer = buffers.add(part.buffers[tensor.buffer].data)
        for operator in subgraph.operators:
            operator.opcodeIndex = _code_index(codes, whole.operatorCodes, part.operatorCodes[operator.opcodeIndex])
        subgraph.name = name
        signature.signatureKey, signature.subgraphIndex = name, len(whole.subgraphs)
        whole.subgraphs.append(subgraph)
        whole.signatureDefs.append(signature)
    # What the runtime wants to know of where a file comes from, such as the oldest version that runs it.
    first = next(iter(parts.values()))
    for entry in first.metadata or []:
        if _text(entry.name) != METADATA:
            entry.buffer = buffers.add(first.buffers[entry.buffer].data)
            whole.metadata.append(entry)
    own = schema.MetadataT()
    own.name = METADATA
    said = json.dumps({**metadata, _CHECKSUM: f"{_DIGEST}{_ZEROS}"}, indent=2)
    own.buffer = buffers.add(np.frombuffer(said.encode("utf-8"), np.uint8))
    whole.metadata.append(own)
    whole.buffers = buffers.rows
    builder = _Builder(1 << 20)
    builder.Finish(whole.Pack(builder), file_identifier=_IDENTIFIER)
    return _sealed(bytes(builder.Output()))


def read_metadata(path: str | os.PathLike) -> dict:
    """Reads what `merge` wrote; empty for a file of another maker.

    Raises:
        ValueError: if the file is no `.tflite` file or is damaged.
    """
    content = pathlib.Path(path).read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise ValueError(f"{path}: not a .tflite file")
    try:
        return metadata(schema.Model.GetRootAs(content))
    except DAMAGE as error:
        raise ValueError(f"{path}: the metadata is damaged: {error}") from error


def metadata(model) -> dict:
    """Returns the metadata of a `schema.Model`, see `read_metadata`; damage raises any of `DAMAGE`."""
    for index in range(model.MetadataLength()):
        if _text(model.Metadata(index).Name()) == METADATA:
            said = json.loads(model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes())
            if not isinstance(said, dict):
                raise ValueError(f"expected an object. Received: {said!r:.80}")
            return said
    return {}


def check_seal(content: bytes) -> bool:
    """Compares a file with the checksum in its metadata.

    Args:
        content: bytes of a `.tflite` file.

    Returns:
        Whether it has one; files of earlier versions have none.

    Raises:
        ValueError: if it is not that of the file.
    """
    found = _SEAL.findall(content)
    if len(found) > 1 or (found and _digest(content) != found[0].decode()):
        raise ValueError("damaged: its bytes are not those that were exported, by the checksum in its metadata")
    return bool(found)


def _sealed(content: bytes) -> bytes:
    return content.replace(f"{_DIGEST}{_ZEROS}".encode(), f"{_DIGEST}{_digest(content)}".encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(_SEAL.sub(f'"{_CHECKSUM}": "{_DIGEST}{_ZEROS}"'.encode(), content)).hexdigest()


class _Buffers:
    """The buffers of a file; the first is empty by the rules of the format, equal ones are one."""

    def __init__(self):
        self.rows = [schema.BufferT()]
        self._places: dict[bytes, int] = {}

    def add(self, values) -> int:
        if values is None or not len(values):
            return 0
        key = np.asarray(values, np.uint8).tobytes()
        if key not in self._places:
            self._places[key] = len(self.rows)
            row = schema.BufferT()
            row.data = np.asarray(values, np.uint8)
            self.rows.append(row)
        return self._places[key]


def _code_index(codes: dict, rows: list, code) -> int:
    key = (code.builtinCode, code.deprecatedBuiltinCode, code.version, code.customCode)
    if key not in codes:
        codes[key] = len(rows)
        rows.append(code)
    return codes[key]


def _text(value) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value
