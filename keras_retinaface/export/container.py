"""Puts several `.tflite` models into one file that stores equal weights once, with metadata. Needs no TensorFlow.

The metadata is JSON in a buffer of the model's own metadata table, under the name `METADATA`.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

METADATA = "keras_retinaface.json"
_IDENTIFIER = b"TFL3"


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
    whole.version, whole.description = 3, "RetinaFace"
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
    own.buffer = buffers.add(np.frombuffer(json.dumps(metadata, indent=2).encode("utf-8"), np.uint8))
    whole.metadata.append(own)
    whole.buffers = buffers.rows
    builder = _Builder(1 << 20)
    builder.Finish(whole.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def read_metadata(path: str | os.PathLike) -> dict:
    """Reads what `merge` wrote; empty for a file of another maker.

    Raises:
        ValueError: if the file is no `.tflite` file.
    """
    content = pathlib.Path(path).read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise ValueError(f"{path}: not a .tflite file")
    model = schema.Model.GetRootAs(content)
    for index in range(model.MetadataLength()):
        if _text(model.Metadata(index).Name()) == METADATA:
            return json.loads(model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes())
    return {}


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
