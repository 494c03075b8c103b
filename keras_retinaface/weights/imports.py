"""Knows public RetinaFace checkpoints by their names and shapes, and makes a config and weights of ours of them.

Exact, or an error that names what does not fit. Reads files; never downloads. What a project does to its images or in
its norms otherwise than we do goes into the weights; what it builds otherwise is a choice in `Config`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.formats import archive, hdf5_file, mxnet_file, torch_file
from keras_retinaface.weights import (
    arrays,
    imports_insightface,
    imports_onnx,
    imports_onnx_insightface,
    imports_peteryux,
    imports_pytorch,
)

_OTHER = "holds other arrays than a RetinaFace"
PROJECTS = ("biubug6", "ternaus", "yakhyo", "serengil", "peteryuX")  # serengil's are insightface's ResNet-50


def _read_params(path: pathlib.Path) -> dict[str, np.ndarray]:
    found = mxnet_file.read(path)
    try:
        return imports_insightface.from_mxnet(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


_READERS = {
    ".pth": torch_file.read,
    ".pt": torch_file.read,
    ".zip": torch_file.read,
    ".npz": arrays.read_npz,
    ".params": _read_params,
}
# What people have beside these, and what can be done about it.
_NOT_READ = {
    ".npy": "pickled dicts, as StanislasBertrand's, are not read; serengil's retinaface.h5 holds the same network",
    ".pb": "frozen graphs of TensorFlow are not read; of a SavedModel give the folder",
    ".tar": "packed folders are not read; unpack it",
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        project: whose layout it has, one of `PROJECTS`.
        config: config of the network that it is for.
        values: arrays by the names of `arrays.names`; they fit the network, or `arrays.assign` says what does not.
    """

    project: str
    config: config_lib.Config
    values: dict[str, np.ndarray]


def read(path: str | os.PathLike, project: str = "") -> Checkpoint:
    """Reads a public checkpoint.

    Args:
        path: `.pth`, `.pt` or `.npz` of a PyTorch state dict, `.h5` of Keras, `.params` of MXNet, `.onnx` with norms
            folded into the convolutions, `.index` of a checkpoint of TensorFlow, or a folder of these or a SavedModel.
        project: whose it is, one of `PROJECTS`; empty to tell by what it holds.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the kind of file is unknown, it is damaged, or its names and shapes are of no known network.
    """
    path, source = pathlib.Path(path), str(path)
    if project and project not in PROJECTS:
        raise ValueError(f"`project` must be one of {PROJECTS}, or empty. Received: {project!r}")
    if path.suffix == ".index" or path.is_dir():
        _check_project(source, project, ("peteryuX",))
        state = imports_peteryux.read(path)
        try:
            return Checkpoint("peteryuX", *imports_peteryux.translate(state, source))
        except (LookupError, TypeError, ValueError) as error:
            raise _named(error, source, _OTHER) from error
    known = sorted([*_READERS, ".h5", ".index", ".onnx"])
    if path.suffix not in known:
        reason = f"; {_NOT_READ[path.suffix]}" if path.suffix in _NOT_READ else ""
        raise ValueError(f"{source}: expected one of {known}. Received: {path.suffix!r}{reason}")
    if path.suffix == ".onnx":
        return _read_onnx(path, project)
    state = _read_h5(path) if path.suffix == ".h5" else _READERS[path.suffix](path)
    if all(name.startswith("module.") for name in state):  # what parallel training leaves
        state = {name.removeprefix("module."): array for name, array in state.items()}
    try:
        if imports_insightface.is_known(state):
            _check_project(source, project, ("serengil",))
            return Checkpoint("serengil", *imports_insightface.translate(state, source))
        if path.suffix == ".h5":
            raise ValueError(f"{source}: expected layers of serengil's retinaface.h5. Received: {_some(state)}")
        if not imports_pytorch.is_known(state):
            raise ValueError(
                f"{source}: its names are those of no network that is known: {PROJECTS}. Received: {_some(state)}"
            )
        of_file = imports_pytorch.project_of(state, project)
        _check_project(source, project, (of_file,))
        config = imports_pytorch.config_of(imports_pytorch.shapes_of(state), source, of_file)
        return Checkpoint(of_file, config, imports_pytorch.translate(state, source, of_file))
    except (LookupError, TypeError, ValueError) as error:
        raise _named(error, source, _OTHER) from error


def _named(error: Exception, source: str, what: str) -> Exception:
    """Returns what names the file, which is the error itself where it does."""
    return error if str(error).startswith(source) else ValueError(f"{source}: {what}: {error!r}")


def _read_onnx(path: pathlib.Path, project: str) -> Checkpoint:
    graph, source = imports_onnx.read(path), str(path)
    is_insightface = imports_onnx_insightface.is_known(graph)
    _check_project(source, project, ("serengil",) if is_insightface else ("yakhyo",))
    try:
        if is_insightface:
            state = imports_onnx_insightface.state(graph, source)
            return Checkpoint("serengil", *imports_insightface.translate(state, source))
        found = imports_onnx.translate(graph, source)
        return Checkpoint("yakhyo", imports_pytorch.config_of(found.shapes, source, "yakhyo"), found.values)
    except (LookupError, TypeError, OverflowError, ValueError) as error:
        raise _named(error, source, "not a readable .onnx file") from error


def load(model, path: str | os.PathLike, project: str = "") -> None:
    """Loads a public checkpoint into a model of its config.

    Args:
        model: a RetinaFace.
        path: see `read`.
        project: see `read`.

    Raises:
        ValueError: as of `read`, or if the model is another network than the file's; the model is then unchanged.
    """
    found = read(path, project)
    for section in ("anchors", "network"):
        wanted, own = (getattr(config, section) for config in (found.config, model.config))
        for field in GEOMETRY[section]:
            if getattr(wanted, field) != getattr(own, field):
                raise ValueError(
                    f"{path}: needs {field}={getattr(wanted, field)!r}. Received: {field}={getattr(own, field)!r}"
                )
    arrays.assign(model, found.values, str(path))


# Fields that decide what the numbers of a file mean.
GEOMETRY = {
    "anchors": ("strides", "sizes", "variances"),
    "network": (
        *("backbone", "backbone_layout", "image_mean", "pyramid_channels", "context_channels", "negative_slope"),
        *("use_plain_pyramid", "use_shared_heads", "use_deformable"),
    ),
}


def from_state_dict(state: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Translates biubug6's layout (`body.stage1.0.0.weight` ...), of a whole network or a part of one.

    Args:
        state: arrays by PyTorch name; a `module.` in front of a name is dropped.
        source: what they came from, for errors.

    Returns:
        Arrays by the names of `arrays.names`; the first convolution takes RGB where the public one takes BGR.

    Raises:
        ValueError: if a name is not of this network.
    """
    state = {name.removeprefix("module."): array for name, array in state.items()}
    return imports_pytorch.translate(state, source, "biubug6")


def from_onnx(model_proto, source: str) -> dict[str, np.ndarray]:
    """Translates an ONNX export of yakhyo's or biubug6's code; see `imports_onnx.translate`."""
    return imports_onnx.translate(model_proto, source).values


def _check_project(source: str, project: str, possible: tuple[str, ...]) -> None:
    if project and project not in possible:
        raise ValueError(f"{source}: has the layout of {' or '.join(possible)}. Received: project={project!r}")


def _some(state: Mapping) -> str:
    return f"{len(state)} arrays, as {sorted(state)[:3]}"


def _read_h5(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads weights that Keras saved as HDF5, by `layer.variable`."""
    try:
        found = hdf5_file.read(path.read_bytes())
    except archive.DAMAGE as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not a readable .h5 file: {error}") from error
    found = {name.removeprefix("model_weights/"): array for name, array in found.items()}
    return {f"{name.split('/')[0]}.{name.split('/')[-1].split(':')[0]}": array for name, array in found.items()}
