"""Checks an `.onnx` file before onnxruntime opens it: ours, whole, and nothing from outside. Needs no onnx package."""

from __future__ import annotations

import os
import pathlib

from keras_retinaface.formats import onnx_file

_LARGEST_FILE, _LARGEST_SIDE = (1 << 31) - 1, 1 << 14
# Names are sides that may be any; those that stand twice must agree.
_IMAGE = ("uint8", ("batch", "height", "width", 3))
_OUTPUTS = {
    "boxes": ("float32", ("batch", "faces", 4)),
    "scores": ("float32", ("batch", "faces")),
    "landmarks": ("float32", ("batch", "faces", 5, 2)),
    "count": ("int32", ("batch",)),
}
# What a light form takes beside the image, with default values.
OPTIONS = {
    "score_threshold": ("float32", (1,)),
    "iou_threshold": ("float32", (1,)),
    "max_faces": ("int64", (1,)),
    "voting_iou": ("float32", (1,)),
}


def read(path: str | os.PathLike) -> tuple[bytes, onnx_file.Parts]:
    """Reads a file and makes sure that it is a whole detector as export makes them.

    What another program has changed since is refused, for nobody can tell that from damage, unless that program took
    the `name` out of its metadata.

    Args:
        path: path of the `.onnx` file.

    Returns:
        Its bytes and its parts.

    Raises:
        ValueError: if there is none, it is damaged, takes or gives other tensors than a detector, has operators beside
            ONNX's own, or keeps weights in other files.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path}: not a RetinaFace .onnx file: larger than {_LARGEST_FILE} bytes")
    content = path.read_bytes()
    try:
        is_sealed = onnx_file.check_seal(content)
        parts = onnx_file.read(content)
        _check(parts, is_sealed)
    except onnx_file.DAMAGE as error:
        raise ValueError(f"{path}: not a RetinaFace .onnx file: {_line(error)}") from error
    return content, parts


def image_size(parts: onnx_file.Parts) -> tuple[int, int] | None:
    """Returns the (height, width) that a detector takes in pixels, or None for any."""
    height, width = parts.inputs["image"].shape[1:3]
    return (height, width) if isinstance(height, int) else None


def score_threshold(parts: onnx_file.Parts) -> float | None:
    """Returns the threshold that a file says it was exported with; None where it says none, or takes one."""
    try:
        return None if parts.defaults else float(parts.metadata["score_threshold"])
    except (KeyError, ValueError):
        return None


def _check(parts: onnx_file.Parts, is_sealed: bool) -> None:
    _check_tensors("input", {"image": _IMAGE}, {n: v for n, v in parts.inputs.items() if n not in parts.defaults})
    _check_tensors("output", _OUTPUTS, parts.outputs)
    if parts.defaults:
        _check_tensors("input", OPTIONS, {n: v for n, v in parts.inputs.items() if n in parts.defaults})
    height, width = parts.inputs["image"].shape[1:3]
    if isinstance(height, int) is not isinstance(width, int):
        raise ValueError("height and width of the input must both be fixed, or both be any")
    foreign = {f"{domain}.{operator}" for domain, operator in parts.operators if domain not in ("", "ai.onnx")}
    if foreign or parts.domains - {"", "ai.onnx"} or parts.has_functions:
        received = sorted(foreign | parts.domains)[-1] if foreign or parts.domains - {""} else "functions"
        raise ValueError(f"it has operators that are not ONNX's own: {received!r:.80}")
    if parts.has_external:
        raise ValueError("its weights lie in other files, which are not read")
    if parts.metadata.get("name") == onnx_file.NAME and not is_sealed:
        raise ValueError("damaged, or changed since its export: its checksum is not the last thing in it")


def _check_tensors(kind: str, wanted: dict, found: dict[str, onnx_file.Value]) -> None:
    sides: dict[str, int | str] = {}

    def fits(name):
        dtype, shape = wanted[name]
        value = found[name]
        if value.dtype != dtype or len(value.shape) != len(shape):
            return False
        return all(_agrees(side, came, sides) for side, came in zip(shape, value.shape))

    if set(wanted) != set(found) or not all(map(fits, wanted)):
        came = {name: (value.dtype, value.shape) for name, value in found.items()}
        raise ValueError(f"expected the {kind} {_describe(wanted)}. Received: {_describe(came) or 'none'}")


def _agrees(side: int | str, came: int | str, sides: dict) -> bool:
    if isinstance(side, int):
        return came == side
    return came == sides.setdefault(side, came) and not (isinstance(came, int) and not 1 <= came <= _LARGEST_SIDE)


def _describe(tensors: dict) -> str:
    said = (f"`{name:.40}` {dtype} [{', '.join(map(str, shape))}]" for name, (dtype, shape) in sorted(tensors.items()))
    return ", ".join(said)[:400]


def _line(error: Exception) -> str:
    return "damaged: it ends too early" if isinstance(error, IndexError) else " ".join(str(error).split())
