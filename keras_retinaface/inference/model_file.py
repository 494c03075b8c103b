"""Opens `.keras` and `.weights.h5` files from anywhere: a checked config and plain numbers, and nothing that is run.

Keras builds whatever a file names, so it is not asked: the network is built here, from our own config, and given the
weights of the file by name.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import typing
from collections.abc import Iterator

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.formats import archive, hdf5_file
from keras_retinaface.weights import arrays as arrays_lib

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LONGEST_TEXT = 1 << 20
_CLASS = {"class_name": "RetinaFace", "registered_name": "keras_retinaface>RetinaFace"}
# How a model was compiled and built is Keras's, and stays unread.
_FIELDS = {*_CLASS, "module", "config", "build_config", "compile_config", "shared_object_id"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OWN = re.compile(r"keras_retinaface(\.[a-z_]+)*")
_PROGRAMS = ("Lambda", "__lambda__")
_MOST_LEVELS, _LARGEST_STRIDE, _MOST_PER_LOCATION = 8, 1024, 64


def load(path: str | os.PathLike) -> typing.Any:
    """Builds the model of a `.keras` file.

    Args:
        path: path of a file that `RetinaFace.save` wrote, under Keras 2 or 3.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or holds another model, code, or anything beside a config and its weights.
    """
    config, name, arrays = _read(path)
    from keras_retinaface.network import model as model_lib

    model = model_lib.RetinaFace(config, name=name)
    arrays_lib.assign(model, _by_name(model, arrays, str(path)), str(path))
    return model


def _read(path: str | os.PathLike) -> tuple[config_lib.Config, str, dict[str, np.ndarray]]:
    """Returns the config, name and weights of a `.keras` file; errors as of `load`."""
    with open(path, "rb") as file:
        if file.read(8) == hdf5_file.SIGNATURE:
            raise ValueError(
                f"{path}: not a readable .keras file: expected the zip archive that `save` writes. Received: HDF5, "
                "whose layers may be programs"
            )
        try:
            members = dict(_members(file))
            config, name = _read_config(members[_CONFIG], len(members[_WEIGHTS]))
            return config, name, hdf5_file.read(members[_WEIGHTS])
        except archive.DAMAGE as error:
            raise ValueError(f"{path}: not a readable .keras file: {' '.join(str(error).split())}") from error


def load_weights(model, path: str | os.PathLike) -> None:
    """Gives a model the weights of a `.weights.h5` file.

    Args:
        model: a RetinaFace.
        path: path of a file that `save_weights` wrote, under Keras 2 or 3.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or does not fit exactly; the model is then unchanged.
    """
    content = pathlib.Path(path).read_bytes()
    try:
        arrays = hdf5_file.read(content)
    except archive.DAMAGE as error:
        raise ValueError(f"{path}: not a readable .weights.h5 file: {error}") from error
    arrays_lib.assign(model, _by_name(model, arrays, str(path)), str(path))


def _members(file) -> Iterator[tuple[str, bytes]]:
    """Yields the three members of a `.keras` file, of sane size."""
    wanted = {_CONFIG, _METADATA, _WEIGHTS}
    for name, content in archive.members(file):
        if name not in wanted:
            raise ValueError(f"expected {_CONFIG}, {_METADATA} and {_WEIGHTS}. Received: {name!r:.80}")
        if name != _WEIGHTS and len(content) > _LONGEST_TEXT:
            raise ValueError(f"{name} is longer than {_LONGEST_TEXT} bytes")
        wanted.discard(name)
        yield name, content
    if wanted:
        raise ValueError(f"{sorted(wanted)[0]} is missing")


def _read_config(text: bytes, num_bytes: int) -> tuple[config_lib.Config, str]:
    """Returns the config and name of the model that a `config.json` describes, whose weights have `num_bytes`."""
    saved = json.loads(text.decode("utf-8"))
    if program := next((name for name in _class_names(saved) if name in _PROGRAMS), None):
        raise ValueError(f"it holds a {program}, which is a program")
    if not isinstance(saved, dict) or any(saved.get(key) != value for key, value in _CLASS.items()):
        received = saved.get("class_name") if isinstance(saved, dict) else saved
        raise ValueError(f"expected a RetinaFace. Received: {received!r:.80}")
    if not _OWN.fullmatch(str(saved.get("module") or "keras_retinaface")):
        raise ValueError(f"expected a RetinaFace of keras_retinaface. Received: one of {saved['module']!r:.80}")
    if unknown := sorted(set(saved) - _FIELDS):
        raise ValueError(f"{_CONFIG} holds a field that RetinaFace does not save: {unknown[0]!r:.80}")
    inner = saved.get("config")
    if not isinstance(inner, dict) or set(inner) != {"config", "name"}:
        raise ValueError(f"a RetinaFace saves `config` and `name`. Received: {inner!r:.80}")
    if not isinstance(inner["name"], str) or not _NAME.fullmatch(inner["name"]):
        raise ValueError(f"`name` must be letters, digits, `_`, `.` and `-`. Received: {inner['name']!r:.80}")
    config = config_lib.Config.from_model_dict(inner["config"])
    _check_size(config, num_bytes)
    return config, inner["name"]


def _class_names(value) -> Iterator:
    """Yields every `class_name` in nested JSON."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            yield value.get("class_name")
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)


def _check_size(config: config_lib.Config, num_bytes: int) -> None:
    """Refuses a network that is far larger than its weights, before it is built."""
    anchors, network = config.anchors, config.network
    # Each level has a 3x3 convolution to half the channels at least, a dense head one that keeps them.
    context = network.pyramid_channels * (network.context_channels or network.pyramid_channels)
    least = 4 * 9 * (context // 2 + network.dense * network.dense_channels**2)
    if least > num_bytes:
        raise ValueError(f"its config asks for {least} bytes of weights at least. Received: {num_bytes}")
    if (
        len(anchors.strides) > _MOST_LEVELS
        or anchors.strides[-1] > _LARGEST_STRIDE
        or anchors.num_per_location > _MOST_PER_LOCATION
    ):
        raise ValueError(
            f"its config must have {_MOST_LEVELS} levels, strides up to {_LARGEST_STRIDE} and {_MOST_PER_LOCATION} "
            f"sizes a level at most. Received: strides={str(anchors.strides):.80}, {anchors.num_per_location} sizes"
        )


def _by_name(model, arrays: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Turns paths in a file of Keras into the names of `arrays.names`.

    Both Keras versions call a layer by its class and its number among those of its class, and number its variables.
    """
    counts: dict[str, int] = {}
    names = {}
    own = {id(variable): name for name, variable in arrays_lib.names(model).items()}
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        number = counts[kind] = counts.get(kind, -1) + 1
        folder = f"{kind}_{number}" if number else kind
        names.update({f"layers/{folder}/vars/{index}": own[id(v)] for index, v in enumerate(layer.weights)})
    # Beside the layers lie the optimizer and the running means of a training.
    found = {path: array for path, array in arrays.items() if path.startswith("layers/")}
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise ValueError(f"{source}: does not fit the model: it holds {len(unknown)} more weights, as {unknown[0]}")
    return {names[path]: array for path, array in found.items()}


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
