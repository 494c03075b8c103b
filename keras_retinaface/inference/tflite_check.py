"""Checks a `.tflite` file before LiteRT maps it into memory, where damage ends the process. Needs no TensorFlow."""

from __future__ import annotations

import math
import os
import pathlib

from ai_edge_litert import schema_py_generated as schema

from keras_retinaface.formats import tflite_file

_KNOWN = {
    "name", "labels", "landmarks", "licence", "quantization", "score_threshold", "iou_threshold", "max_faces",
    "voting_iou", "signatures", "inputs", "outputs", "checksum",
}  # fmt: skip
_LARGEST_FILE, _LARGEST_TENSOR, _LARGEST_SIDE = 1 << 31, 1 << 31, 1 << 14
_TYPES = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
_BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "UINT8": 1, "INT64": 8, "BOOL": 1, "INT8": 1, "INT16": 2}
_OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
# Names of numbers that may be any; those of outputs must agree.
_INPUTS = {"image": ("UINT8", (1, "height", "width", 3))}
_OUTPUTS = {
    "boxes": ("FLOAT32", (1, "faces", 4)),
    "scores": ("FLOAT32", (1, "faces")),
    "landmarks": ("FLOAT32", (1, "faces", 5, 2)),
    "count": ("INT32", (1,)),
}


def read(path: str | os.PathLike) -> bytes:
    """Reads a file and makes sure that it is a whole detector that export made.

    Files of earlier versions carry no checksum; damage among their weights and options stays unseen.

    Args:
        path: path of the `.tflite` file.

    Returns:
        Its content: the bytes that were checked, whatever becomes of the file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, takes or gives other tensors than a detector, or has ops beside LiteRT's own.
    """
    path = pathlib.Path(path)
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path}: not a RetinaFace .tflite file: larger than {_LARGEST_FILE} bytes")
    content = path.read_bytes()
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("not a .tflite file")
        is_sealed = tflite_file.check_seal(content)
        model = schema.Model.GetRootAs(content)
        _check_metadata(model, is_sealed)
        _check_signatures(model)
        _check_structure(model, len(content))
    except tflite_file.DAMAGE as error:
        raise ValueError(f"{path}: not a RetinaFace .tflite file: {' '.join(str(error).split())}") from error
    return content


def score_threshold(content: bytes) -> float | None:
    """Returns the threshold that a file says it was exported with; None where it says none."""
    said = tflite_file.metadata(schema.Model.GetRootAs(content)).get("score_threshold")
    try:
        return float(said)
    except (TypeError, ValueError, OverflowError):
        return None


def _check_metadata(model, is_sealed: bool) -> None:
    """Refuses what `tflite_file.merge` would not say: then the place of the checksum may be what is damaged."""
    said = tflite_file.metadata(model)
    is_ours = bool(said) or model.Description() == b"RetinaFace"
    if is_ours and (set(said) - _KNOWN or "signatures" not in said or ("checksum" in said) != is_sealed):
        raise ValueError("the metadata is damaged")


def _check_structure(model, size: int) -> None:
    """Makes sure that every index and every length lies within the file."""
    lengths = [model.SubgraphsLength(), model.BuffersLength(), model.OperatorCodesLength(), model.SignatureDefsLength()]
    if not model.SubgraphsLength() or max(lengths) > size // 4:
        raise ValueError("damaged: more parts than bytes")
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if code.CustomCode() is not None or _OPERATORS.get(number, "CUSTOM") == "CUSTOM":
            raise ValueError(f"it has an op that is not LiteRT's own: {code.CustomCode() or number!r:.80}")
    sizes = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.Offset() > 1:
            raise ValueError("damaged: weights outside the file")
        sizes.append(0 if buffer.DataIsNone() else len(buffer.DataAsNumpy()))
    for index in range(model.SubgraphsLength()):
        _check_subgraph(model.Subgraphs(index), model.OperatorCodesLength(), sizes)


def _check_subgraph(subgraph, num_codes: int, sizes: list[int]) -> None:
    num_tensors = subgraph.TensorsLength()
    for index in range(num_tensors):
        tensor = subgraph.Tensors(index)
        kind, shape = _described(tensor)
        length = math.prod(shape) * _BYTES.get(kind, 0)
        if kind not in _BYTES or min(shape, default=0) < 0 or length > _LARGEST_TENSOR:
            raise ValueError(f"damaged: tensor {index} is {kind} {list(shape)}")
        if tensor.Buffer() >= len(sizes) or sizes[tensor.Buffer()] not in (0, length):
            raise ValueError(f"damaged: tensor {index} does not have {length} bytes")
    for index in range(subgraph.OperatorsLength()):
        operator = subgraph.Operators(index)
        inputs = [operator.Inputs(place) for place in range(operator.InputsLength())]
        outputs = [operator.Outputs(place) for place in range(operator.OutputsLength())]
        if operator.OpcodeIndex() >= num_codes or not _are_tensors(
            [i for i in inputs if i != -1] + outputs, num_tensors
        ):
            raise ValueError(f"damaged: operator {index}")
    ends = [subgraph.Inputs(place) for place in range(subgraph.InputsLength())]
    ends += [subgraph.Outputs(place) for place in range(subgraph.OutputsLength())]
    if not _are_tensors(ends, num_tensors):
        raise ValueError("damaged: inputs or outputs")


def _are_tensors(indices: list[int], num_tensors: int) -> bool:
    return all(0 <= index < num_tensors for index in indices)


def _described(tensor) -> tuple[str, tuple[int, ...]]:
    shape = tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
    return _TYPES.get(tensor.Type(), "unknown"), shape


def _check_signatures(model) -> None:
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        if signature.SubgraphIndex() >= model.SubgraphsLength():
            raise ValueError("damaged: a signature without a graph")
        subgraph = model.Subgraphs(signature.SubgraphIndex())
        found = {
            kind: {
                entry(place).Name().decode("utf-8"): _described(subgraph.Tensors(entry(place).TensorIndex()))
                for place in range(length)
                if _are_tensors([entry(place).TensorIndex()], subgraph.TensorsLength())
            }
            for kind, entry, length in (
                ("input", signature.Inputs, signature.InputsLength()),
                ("output", signature.Outputs, signature.OutputsLength()),
            )
        }
        for kind, wanted in (("input", _INPUTS), ("output", _OUTPUTS)):
            _check_tensors(kind, wanted, found[kind])
    if not model.SignatureDefsLength():
        subgraph = model.Subgraphs(0)
        came = [_said(*_described(subgraph.Tensors(subgraph.Inputs(i)))) for i in range(subgraph.InputsLength())]
        raise ValueError(f"expected a signature with the input {_describe(_INPUTS)}. Received: none, {', '.join(came)}")


def _check_tensors(kind: str, wanted: dict, found: dict) -> None:
    names: dict[str, int] = {}

    def fits(name):
        dtype, shape = found[name]
        sides = wanted[name][1]
        if dtype != wanted[name][0] or len(shape) != len(sides):
            return False
        # A side with a name is the same wherever the name stands.
        return all(
            1 <= s <= _LARGEST_SIDE and s == (names.setdefault(w, s) if isinstance(w, str) else w)
            for w, s in zip(sides, shape)
        )

    if set(wanted) != set(found) or not all(map(fits, wanted)):
        raise ValueError(f"expected the {kind} {_describe(wanted)}. Received: {_describe(found) or 'none'}")


def _describe(tensors: dict) -> str:
    return ", ".join(f"`{name:.40}` {_said(*tensor)}" for name, tensor in sorted(tensors.items()))[:400]


def _said(dtype: str, shape: tuple) -> str:
    return f"{dtype.lower()} [{', '.join(map(str, shape))}]"
