"""Checkpoints and SavedModels of peteryuX/retinaface-tf2: biubug6's network on backbones of `keras.applications`."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
from collections.abc import Iterator, Mapping

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.layers import layer_name
from keras_retinaface.weights import keras_name, torch_name

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_LAYER = re.compile(r"layer_with_weights-(\d+)")
_PYRAMID = {"output": "lateral", "merge": "merge"}
# Heads by the numbers of an anchor; all have two anchors.
_HEADS = {4: "class", 8: "box", 20: "landmark"}
_BACKBONE, _FPN, _SSH = "backbone", "FPN", "SSH"
_MOST_OBJECTS, _DEEPEST = 20000, 4
_MOBILENET_RANGE = 127.5  # that its images are divided by
_SMALL, _SLOPE = 64, 0.1  # up to so many channels the pyramid has leaky ReLUs


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the weights of a checkpoint; needs TensorFlow, which checks them.

    Args:
        path: path of its `.index` file, or a folder: a SavedModel, or one of checkpoints, of which the last is read.

    Returns:
        Arrays by path: `backbone/conv1_conv/kernel`, `FPN/output1/conv/kernel`, `SSH_0/conv_3x3/bn/gamma`,
        `Head_0/conv/kernel`, in the file's order.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or of another network.
    """
    import tensorflow as tf

    prefix = _prefix(pathlib.Path(path))
    try:
        reader = tf.train.load_checkpoint(prefix)
        graph = _object_graph(reader.get_tensor(_GRAPH))
        return {name: reader.get_tensor(key) for name, key in _keys(graph).items()}
    except (tf.errors.OpError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable checkpoint of TensorFlow: {_line(error)}") from error


def _prefix(path: pathlib.Path) -> str:
    if path.is_dir():
        found = sorted(path.glob("variables/variables.index")) or sorted(
            path.glob("*.index"), key=lambda file: [int(number) for number in re.findall(r"\d+", file.name)]
        )
        if not found:
            raise ValueError(f"{path}: neither a SavedModel nor a folder of checkpoints")
        path = found[-1]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return str(path.with_suffix(""))


def _object_graph(content: bytes):
    from google.protobuf import message
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    try:
        return trackable_object_graph_pb2.TrackableObjectGraph.FromString(content)
    except message.DecodeError as error:
        raise TypeError("its graph of objects is damaged") from error


def _keys(graph) -> dict[str, str]:
    """Returns where each array lies, by path."""
    nodes = graph.nodes
    root = {child.local_name: child.node_id for child in nodes[0].children}
    if "model" in root:
        root = {child.local_name: child.node_id for child in nodes[root["model"]].children}
    layers = sorted((int(match[1]), node) for name, node in root.items() if (match := _LAYER.fullmatch(name)))
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    visited = itertools.count(1)
    for _, node in layers:
        values = dict(_values(nodes, node, "", _DEEPEST, visited))
        if any(path.startswith("layer_with_weights-") for path in values):
            # Its layers are known by the names of their variables, whatever order a version of Keras keeps them in.
            found.update({f"{_BACKBONE}/{full_name}": key for full_name, key in values.values()})
            continue
        kind = _FPN if any(path.startswith("output1/") for path in values) else "Head"
        kind = _SSH if any(path.startswith("conv_3x3/") for path in values) else kind
        number = counts[kind] = counts.get(kind, -1) + 1
        label = kind if kind == _FPN else f"{kind}_{number}"
        found.update({f"{label}/{path}": key for path, (_, key) in values.items()})
    return found


def _values(nodes, place: int, path: str, depth: int, visited: Iterator[int]):
    """Yields the variables of an object: path, and (its name, the key that it is saved by)."""
    if next(visited) > _MOST_OBJECTS:  # parts may be parts of themselves, a thousand times over
        raise LookupError(f"its layers have more than {_MOST_OBJECTS} parts")
    for attribute in nodes[place].attributes:
        if attribute.name == "VARIABLE_VALUE":
            yield path, (attribute.full_name, attribute.checkpoint_key)
    if depth:
        for child in nodes[place].children:
            if _is_part(child.local_name):
                yield from _values(nodes, child.node_id, f"{path}/{child.local_name}".lstrip("/"), depth - 1, visited)


def _is_part(name: str) -> bool:
    known = {"conv", "bn", "kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}
    return (
        name in known or re.fullmatch(r"(?:output|merge)\d|conv_\dx\d(?:_\d)?|layer_with_weights-\d+", name) is not None
    )


def translate(state: Mapping[str, np.ndarray], source: str) -> tuple[config_lib.Config, dict[str, np.ndarray]]:
    """Translates the arrays.

    Args:
        state: what `read` returned.
        source: what they came from, for errors.

    Returns:
        The config, and arrays by the names of `arrays.names`.

    Raises:
        ValueError: if a name is of no layer of this network.
    """
    is_mobilenet = f"{_BACKBONE}/Conv1/kernel" in state
    lateral = state.get(f"{_FPN}/output1/conv/kernel")
    if lateral is None or not (is_mobilenet or f"{_BACKBONE}/conv1_conv/kernel" in state):
        raise ValueError(
            f"{source}: holds no RetinaFace of peteryuX. Received: {len(state)} arrays, as {sorted(state)[:3]}"
        )
    values: dict[str, np.ndarray] = {}
    levels: dict[str, int] = {}
    for name, array in state.items():
        layer, leaf = _layer_of(name, array, is_mobilenet, levels)
        if layer is None:
            raise ValueError(f"{source}: {name} is not a weight of peteryuX's RetinaFace")
        values[f"{layer}/{leaf}"] = array
    stem = "mobile_0/kernel" if is_mobilenet else "conv1/kernel"
    values[stem] = values[stem] / _MOBILENET_RANGE if is_mobilenet else values[stem][:, :, ::-1]
    for key in [key for key in values if key.endswith("/bias")]:
        mean = f"{layer_name.norm_of(key[: -len('/bias')])}/moving_mean"
        if mean in values:  # a norm takes a bias away again
            values[mean] = values[mean] - values.pop(key)
    channels = lateral.shape[-1]
    config = config_lib.Config().replace(
        backbone="mobilenet_v2_160" if is_mobilenet else "resnet50",
        backbone_layout="keras",
        pyramid_channels=channels,
        negative_slope=_SLOPE if channels <= _SMALL else 0.0,
    )
    return config, values


def _layer_of(name: str, array: np.ndarray, is_mobilenet: bool, levels: dict[str, int]) -> tuple[str | None, str]:
    """Returns our layer and its variable; `levels` counts the heads of each kind that were met."""
    prefix, _, leaf = name.rpartition("/")
    leaf = "kernel" if leaf == "depthwise_kernel" else leaf
    part, _, inner = prefix.partition("/")
    if part == _BACKBONE:
        return (keras_name.mobilenet_v2 if is_mobilenet else keras_name.resnet)(inner), leaf
    block, _, kind = inner.partition("/")
    if part == _FPN and (match := re.fullmatch(r"(output|merge)([123])", block)):
        return torch_name.part(f"{_PYRAMID[match[1]]}_P{int(match[2]) + 2}", kind == "bn"), leaf
    if (match := re.fullmatch(rf"{_SSH}_([012])", part)) and block.startswith("conv_"):
        return torch_name.part(f"context_P{int(match[1]) + 3}_{block[len('conv_') :]}", kind == "bn"), leaf
    if part.startswith("Head_") and array.shape[-1] in _HEADS:
        head = _HEADS[array.shape[-1]]
        seen = [key for key in levels if key.startswith(f"{head} ")]
        level = levels.setdefault(f"{head} {part}", len(seen))
        return f"{head}_P{level + 3}", leaf
    return None, leaf


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
