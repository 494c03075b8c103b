"""ONNX exports of serengil's `retinaface.pth`, as `retinaface.onnx`: most norms are folded into the convolutions."""

from __future__ import annotations

import re

import numpy as np

from keras_retinaface.weights import imports_insightface

_FIRST = "bn_data"
_HEADS = "face_rpn_stride"
# What the exporters call an array that is no longer the module's own.
_RENAMED = "onnx::"
_NORM = ("weight", "bias", "running_mean", "running_var")


def is_known(model_proto) -> bool:
    """Returns whether a graph is of this network, by its first norm."""
    return any(item.name == f"{_FIRST}.weight" for item in model_proto.graph.initializer)


def state(model_proto, source: str) -> dict[str, np.ndarray]:
    """Returns the arrays by the names of `retinaface.pth`, for `imports_insightface.translate`.

    Args:
        model_proto: an `onnx.ModelProto`, of either exporter of PyTorch.
        source: what it came from, for errors.

    Raises:
        ValueError: if a convolution has no weights of its own.
    """
    from onnx import numpy_helper

    constants = {item.name: numpy_helper.to_array(item) for item in model_proto.graph.initializer}
    nodes = model_proto.graph.node
    is_before_norm = {node.input[0] for node in nodes if node.op_type == "BatchNormalization"}
    found: dict[str, np.ndarray] = {}
    unit = ""  # of the last norm that kept its name: the older exporter leaves the stage out of its convolutions' names
    for node in nodes:
        if node.op_type == "BatchNormalization":
            layer = node.input[1].rpartition(".")[0]
            unit = layer.rpartition(".")[0]
            found.update({f"{layer}.{leaf}": constants[name] for leaf, name in zip(_NORM, node.input[1:])})
        elif node.op_type == "Conv":
            if node.input[1] not in constants:
                raise ValueError(f"{source}: the weights of {node.name} are no constant")
            layer = _layer_of(node, unit)
            found[f"{layer}.weight"] = constants[node.input[1]]
            if len(node.input) > 2:
                is_folded = node.output[0] not in is_before_norm and not layer.startswith(_HEADS)
                leaf = imports_insightface.FOLDED if is_folded else "bias"
                found[f"{layer}.{leaf}"] = constants[node.input[2]]
    return found


def _layer_of(node, unit: str) -> str:
    """Returns the module of a convolution, by its weights' name or its own."""
    weights = node.input[1]
    if weights.endswith(".weight") and not weights.startswith(_RENAMED):
        return weights.removesuffix(".weight")
    parts = node.name.strip("/").split("/")[:-1]
    if len(parts) == 2 and parts[0] == unit.rpartition(".")[2]:
        return f"{unit}.{re.sub(r'_[0-9]+$', '', parts[1])}"  # a later stage's has a number behind it
    return ".".join(parts)
