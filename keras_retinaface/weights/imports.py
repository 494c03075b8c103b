"""Reads public RetinaFace MobileNet-0.25 weights (PyTorch layout or its ONNX export). Exact, or an error that names it.

Reads files; never downloads.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import re
from collections.abc import Mapping

import numpy as np

from keras_retinaface.formats import archive
from keras_retinaface.layers import layer_name
from keras_retinaface.weights import arrays

# Batch norm epsilon of the graph; a norm with variance 1 - epsilon, mean 0 and scale 1 adds its offset and no more.
_EPSILON = 1e-5
_CONTEXT = {
    "conv3X3": "3x3",
    "conv5X5_1": "5x5_1",
    "conv5X5_2": "5x5_2",
    "conv7X7_2": "7x7_2",
    "conv7x7_3": "7x7_3",
}
_HEADS = {"classhead": "class", "bboxhead": "box", "landmarkhead": "landmark"}
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def load(model, path: str | os.PathLike) -> None:
    """Loads public weights into a model of preset `mobilenet025`.

    Args:
        model: a RetinaFace.
        path: `.onnx` (norms folded into the convolutions), `.npz` or `.pth` of a PyTorch state dict.

    Raises:
        ValueError: if the kind of file is unknown or the weights do not fit exactly.
    """
    path = pathlib.Path(path)
    readers = {".onnx": _read_onnx_file, ".npz": _read_state_npz, ".pth": _read_pth, ".pt": _read_pth}
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected one of {sorted(readers)}. Received: {path.suffix!r}")
    arrays.assign(model, readers[path.suffix](path), str(path))


def from_state_dict(state: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Translates the public PyTorch layout (`body.stage1.0.0.weight` ...).

    Args:
        state: arrays by PyTorch name; a `module.` in front of every name is dropped.
        source: what they came from, for errors.

    Returns:
        Arrays by the names of `arrays.names`; the first convolution takes RGB where the public one takes BGR.

    Raises:
        ValueError: if a name is not of this network.
    """
    values = {}
    for name, array in state.items():
        prefix, _, leaf = (name[len("module.") :] if name.startswith("module.") else name).rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        layer = _layer_of(prefix)
        if layer is None or leaf not in _NORM:
            raise ValueError(f"{source}: {name} is not a weight of RetinaFace MobileNet-0.25")
        array = np.asarray(array)
        if layer_name.is_norm(layer):
            values[f"{layer}/{_NORM[leaf]}"] = array
        elif leaf == "bias":
            values[f"{layer}/bias"] = array
        else:
            values[f"{layer}/kernel"] = _to_keras_kernel(layer, array)
    return values


def from_onnx(model_proto, source: str) -> dict[str, np.ndarray]:
    """Translates the ONNX export, whose batch norms are folded into the convolutions.

    Args:
        model_proto: an `onnx.ModelProto`.
        source: what it came from, for errors.

    Returns:
        Arrays by the names of `arrays.names`; every norm only adds the folded bias, and can be trained on.

    Raises:
        ValueError: if a convolution is not of this network, or two that should share weights do not.
    """
    from onnx import numpy_helper

    constants = {item.name: numpy_helper.to_array(item) for item in model_proto.graph.initializer}
    for node in model_proto.graph.node:
        # The exporter stores an array that stands twice once, and names it through Identity.
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    values: dict[str, np.ndarray] = {}
    for node in model_proto.graph.node:
        if node.op_type != "Conv":
            continue
        layer = _layer_of(_prefix_of_node(node.name))
        if layer is None:
            raise ValueError(f"{source}: {node.name} is not a convolution of RetinaFace MobileNet-0.25")
        kernel = _to_keras_kernel(layer, constants[node.input[1]])
        bias = constants[node.input[2]]
        found = {f"{layer}/kernel": kernel}
        if layer_name.part_of(layer) == layer_name.HEADS:
            found[f"{layer}/bias"] = bias
        else:
            norm = layer_name.norm_of(layer)
            found[f"{norm}/beta"] = bias
            found[f"{norm}/gamma"] = np.ones_like(bias)
            found[f"{norm}/moving_mean"] = np.zeros_like(bias)
            found[f"{norm}/moving_variance"] = np.full_like(bias, 1.0 - _EPSILON)
        for name, array in found.items():
            # The export computes the first 5x5 convolution of a context module twice, from the same weights.
            if name in values and not np.array_equal(values[name], array):
                raise ValueError(f"{source}: {node.name} differs from an earlier use of {name}")
            values[name] = array
    return values


def _layer_of(prefix: str) -> str | None:
    """Maps a PyTorch module's name to our layer's, or None."""
    if match := re.fullmatch(r"body\.stage1\.0\.([01])", prefix):
        return _part("stage1_0", match[1])
    if match := re.fullmatch(r"body\.(stage[123])\.(\d+)\.([0134])", prefix):
        kind, number = {"0": ("depthwise", 0), "1": ("depthwise", 1), "3": ("pointwise", 0), "4": ("pointwise", 1)}[
            match[3]
        ]
        return _part(f"{match[1]}_{match[2]}_{kind}", number)
    if match := re.fullmatch(r"fpn\.(output|merge)([123])\.([01])", prefix):
        kind = {"output": "lateral", "merge": "merge"}[match[1]]
        return _part(f"{kind}_P{int(match[2]) + 2}", match[3])
    if match := re.fullmatch(r"ssh([123])\.(\w+)\.([01])", prefix):
        if match[2] in _CONTEXT:
            return _part(f"context_P{int(match[1]) + 2}_{_CONTEXT[match[2]]}", match[3])
    if match := re.fullmatch(r"(\w+)\.([012])\.conv1x1", prefix):
        if match[1].lower() in _HEADS:
            return f"{_HEADS[match[1].lower()]}_P{int(match[2]) + 3}"
    return None


def _part(convolution: str, number: str | int) -> str:
    """Returns the first part of a block, its convolution, or the second, its norm."""
    return layer_name.norm_of(convolution) if int(number) else convolution


def _prefix_of_node(name: str) -> str:
    """Turns the name of an ONNX node into the PyTorch module's: `/ssh1/conv3X3/conv3X3.0/Conv` -> `ssh1.conv3X3.0`."""
    parts = name.strip("/").split("/")
    root, last = parts[0], re.sub(r"_\d+$", "", parts[-2])  # a second use of a module has `_1` behind it
    if root == "fx":
        # Here depthwise and pointwise are blocks of their own: stage1.1.1.0 is what PyTorch calls stage1.1.3.
        numbers = last.split(".")
        if len(numbers) == 4:
            return f"body.{numbers[0]}.{numbers[1]}.{3 * int(numbers[2]) + int(numbers[3])}"
        return f"body.{last}"
    if root.endswith("_head"):
        return f"{root.replace('_', '')}.{last.split('.')[-1]}.conv1x1"
    return f"{root}.{last}"


def _to_keras_kernel(layer: str, kernel: np.ndarray) -> np.ndarray:
    if kernel.ndim != 4:
        raise ValueError(f"{layer}: a convolution kernel has 4 axes. Received: shape {kernel.shape}")
    if layer_name.is_depthwise(layer):
        return np.transpose(kernel, (2, 3, 0, 1))
    kernel = np.transpose(kernel, (2, 3, 1, 0))
    return kernel[:, :, ::-1] if layer == "stage1_0" else kernel  # BGR to RGB


def _read_onnx_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    import onnx
    from google.protobuf import message

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (message.DecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable .onnx file: {error}") from error
    for item in model.graph.initializer:
        if item.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{path}: {item.name} lies in another file, which is not read")
    try:
        return from_onnx(model, str(path))
    except (LookupError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: not a readable .onnx file: {error!r}") from error


def _read_state_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    return from_state_dict(arrays.read_npz(path), str(path))


def _read_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
    return from_state_dict(read_pth(path), str(path))


def read_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict; needs torch."""
    import torch  # only for this kind of file; an .npz of the state dict does without

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.get("state_dict", state).items()}
    except (pickle.UnpicklingError, *archive.DAMAGE) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path}: not a readable PyTorch state dict: {text[0]}") from error
