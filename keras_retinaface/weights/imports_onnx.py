"""ONNX exports of biubug6's and yakhyo's networks, whose norms the exporter has folded into the convolutions."""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

import numpy as np

from keras_retinaface.layers import layer_name
from keras_retinaface.weights import imports_pytorch, torch_name

# Batch norm epsilon of our graph; a norm with variance 1 - epsilon, mean 0 and scale 1 adds its offset and no more.
_EPSILON = 1e-5
_STEMS = ("stage1_0", "conv1", "mobile_0")


class Convolutions(NamedTuple):
    """What a graph holds.

    Attributes:
        values: arrays by the names of `arrays.names`.
        shapes: shapes of the kernels in PyTorch's order, by our names.
    """

    values: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]


def read(path: pathlib.Path):
    """Reads a file as an `onnx.ModelProto`; needs the package onnx.

    Raises:
        ValueError: if the file is damaged or refers to other files.
    """
    import onnx
    from google.protobuf import message

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (message.DecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable .onnx file: {error}") from error
    for item in model.graph.initializer:
        if item.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{path}: {item.name} lies in another file, which is not read")
    return model


def translate(model_proto, source: str) -> Convolutions:
    """Translates a graph.

    Args:
        model_proto: an `onnx.ModelProto`.
        source: what it came from, for errors.

    Returns:
        Arrays by our names; every norm only adds the folded bias, and can be trained on.

    Raises:
        ValueError: if a convolution is not of this network, two that should share weights do not, or it may be
            biubug6's or ternaus's ResNet-50.
    """
    from onnx import numpy_helper

    constants = {item.name: numpy_helper.to_array(item) for item in model_proto.graph.initializer}
    for node in model_proto.graph.node:
        # The exporter stores an array that stands twice once, and names it through Identity.
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    values: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for node in model_proto.graph.node:
        if node.op_type != "Conv":
            continue
        layer = imports_pytorch.layer_of(_module_of(node.name))
        if layer == "conv1" and node.name.startswith("/body/"):
            raise ValueError(
                f"{source}: biubug6's and ternaus's ResNet-50 have these names and see images of another scale, which "
                "only their norms tell, and those are folded away here: import the .pth"
            )
        if layer is None:
            raise ValueError(f"{source}: {node.name} is not a convolution of a RetinaFace of biubug6 or yakhyo")
        kernel, bias = constants[node.input[1]], constants[node.input[2]]
        shapes[f"{layer}/kernel"] = kernel.shape
        for name, array in _arrays(layer, kernel, bias).items():
            # The export computes the first 5x5 convolution of a context module twice, from the same weights.
            if name in values and not np.array_equal(values[name], array):
                raise ValueError(f"{source}: {node.name} differs from an earlier use of {name}")
            values[name] = array
    return Convolutions(values, shapes)


def _arrays(layer: str, kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    name, kernel = torch_name.to_ours(layer, "weight", kernel)
    found = {name: imports_pytorch.to_rgb(kernel, "yakhyo") if layer in _STEMS else kernel}
    if layer_name.part_of(layer) == layer_name.HEADS:
        return {**found, f"{layer}/bias": bias}
    norm = layer_name.norm_of(layer)
    return {
        **found,
        f"{norm}/beta": bias,
        f"{norm}/gamma": np.ones_like(bias),
        f"{norm}/moving_mean": np.zeros_like(bias),
        f"{norm}/moving_variance": np.full_like(bias, 1.0 - _EPSILON),
    }


def _module_of(node: str) -> str:
    """Turns a node's name into its module's: `/fx/layer1/layer1.0/conv1/Conv` -> `fx.layer1.0.conv1`."""
    *parts, _ = node.strip("/").split("/")
    path = ""
    for part in parts:
        part = re.sub(r"(\.\d+)_\d+$", r"\1", part)  # a second use of a module has `_1` behind it
        # The parts of a list repeat its name.
        ends = [place for place in range(len(path)) if place == 0 or path[place - 1] == "."]
        lists = ((place, path[place:]) for place in ends)
        repeated = [place for place, name in lists if part.startswith((f"{name}.", re.sub(r"_\d+$", "", name) + "."))]
        path = f"{path[: repeated[0]]}{part}" if repeated else f"{path}.{part}" if path else part
    return path
