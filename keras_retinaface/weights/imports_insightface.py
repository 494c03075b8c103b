"""The first RetinaFace's ResNet-50: insightface's `.params`, and as serengil's `retinaface.h5` and `.pth` hold it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.layers import layer_name
from keras_retinaface.weights import torch_name

# A bias that is all that is left of a norm.
FOLDED = "folded"
_NEEDED = ("bn_data", "ssh_c3_lateral", "stage4_unit3_conv3")
# Of every norm of theirs, and of every norm of ours.
_EPSILON, _OWN_EPSILON = 1.9999999494757503e-05, 1e-5
_ANCHOR_SIZES = ((32.0, 16.0), (128.0, 64.0), (512.0, 256.0))
_STRIDES = (8, 16, 32)
# The first anchor of every level stands so many pixels from the image's corner, ours half a stride.
_FIRST_CENTRE = 8.0
_INPUT_NORM, _STEM = "bn_data", "conv1"
_FIXED = {
    "conv0": _STEM,
    "bn0": "conv1_bn",
    "bn1": "post_bn",
    "ssh_c3_lateral": "lateral_P5",
    "ssh_c2_lateral": "lateral_P4",
    "ssh_m1_red_conv": "lateral_P3",
    "ssh_c2_aggr": "merge_P4",
    "ssh_c1_aggr": "merge_P3",
}
_UNIT = {
    "bn1": "before_bn",
    "conv1": "conv1",
    "bn2": "conv1_bn",
    "conv2": "conv2",
    "bn3": "conv2_bn",
    "conv3": "conv3",
    "sc": "shortcut",
}
_CONTEXT = {
    "conv1": "3x3",
    "context_conv1": "5x5_1",
    "context_conv2": "5x5_2",
    "context_conv3_1": "7x7_2",
    "context_conv3_2": "7x7_3",
}
_HEADS = {"cls_score": "class", "bbox_pred": "box", "landmark_pred": "landmark"}
_LEVELS = {"8": "P3", "16": "P4", "32": "P5"}
_MXNET = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_var": "moving_variance",
}
_KERAS = {"kernel", "bias", *layer_name.NORM_ARRAYS}


def is_known(state: Mapping[str, np.ndarray]) -> bool:
    """Returns whether arrays are of this network, by their names."""
    layers = {_layer_name(name.rpartition(".")[0]) for name in state}
    return layers.issuperset(_NEEDED)


def from_mxnet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays of MXNet (`arg:bn0_gamma`, `aux:bn0_moving_var`) by `layer.variable`; others keep their names."""
    state = {}
    for name, array in arrays.items():
        match = re.fullmatch(rf"(?:arg:|aux:)?(\w+?)_({'|'.join(_MXNET)})", name)
        key = f"{match[1]}.{_MXNET[match[2]]}" if match else name
        if key in state:
            raise ValueError(f"two arrays are called {key}, with and without their prefix")
        state[key] = np.asarray(array)
    if f"{_INPUT_NORM}.gamma" in state:
        # MXNet takes this norm's scale as one, whatever stands in the file (`fix_gamma`).
        state[f"{_INPUT_NORM}.gamma"] = np.ones_like(state[f"{_INPUT_NORM}.gamma"])
    return state


def translate(state: Mapping[str, np.ndarray], source: str) -> tuple[config_lib.Config, dict[str, np.ndarray]]:
    """Translates the arrays.

    What its norm of the image does is a mean and a scale of the first kernel. Its anchors stand elsewhere than ours, by
    as much as the biases of the heads make up for.

    Args:
        state: arrays by `layer.variable`, as Keras or PyTorch calls them.
        source: what they came from, for errors.

    Returns:
        The config, and arrays by the names of `arrays.names`.

    Raises:
        ValueError: if a name is of no layer of this network, or one that the config needs is missing.
    """
    values: dict[str, np.ndarray] = {}
    norm: dict[str, np.ndarray] = {}
    for name, array in state.items():
        prefix, _, leaf = name.rpartition(".")
        if leaf == torch_name.COUNTER:
            continue
        theirs = _layer_name(prefix)
        layer = _INPUT_NORM if theirs == _INPUT_NORM else _layer_of(theirs)
        if layer is None:
            raise ValueError(f"{source}: {name} is not a weight of insightface's RetinaFace")
        if layer == _INPUT_NORM:
            norm[torch_name.NORM.get(leaf, leaf)] = np.asarray(array, np.float64)
        elif leaf == FOLDED:
            values.update(_added(layer_name.norm_of(layer), np.asarray(array)))
        elif leaf in _KERAS and not (leaf == "bias" and layer_name.is_norm(layer)):  # which is PyTorch's word
            values[f"{layer}/{leaf}"] = np.asarray(array)
        else:
            ours, value = torch_name.to_ours(layer, leaf, np.asarray(array))
            values[ours] = value
    if missing := set(layer_name.NORM_ARRAYS) - norm.keys() or f"{_STEM}/kernel" not in values:
        raise ValueError(f"{source}: does not fit: missing {missing if missing is not True else 'conv0'}")
    mean = _fold_input_norm(values, norm)
    _fold_norms(values)
    _move_heads(values)
    config = config_lib.Config().replace(
        sizes=_ANCHOR_SIZES,
        variances=(1.0, 1.0),
        backbone="resnet50_v2",
        image_mean=mean,
        pyramid_channels=256,
        context_channels=512,
        negative_slope=0.0,
    )
    return config, values


def _fold_input_norm(values: dict, norm: Mapping[str, np.ndarray]) -> tuple[float, ...]:
    """Scales the first kernel, and returns what must be taken away of the image: padding is zero behind both."""
    slope = norm["gamma"] / np.sqrt(norm["moving_variance"] + _EPSILON)
    kernel = values[f"{_STEM}/kernel"]
    values[f"{_STEM}/kernel"] = (kernel * slope[:, None]).astype(np.float32)
    return tuple(float(value) for value in norm["moving_mean"] - norm["beta"] / slope)


def _added(norm: str, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a norm that adds and does nothing else."""
    return {
        f"{norm}/beta": bias,
        f"{norm}/gamma": np.ones_like(bias),
        f"{norm}/moving_mean": np.zeros_like(bias),
        f"{norm}/moving_variance": np.full_like(bias, 1 - _EPSILON),
    }


def _fold_norms(values: dict) -> None:
    """Puts into stored variances and means what ours does otherwise: another epsilon, no bias before a norm."""
    for key in [key for key in values if key.endswith("/moving_variance")]:
        values[key] = values[key] + np.float32(_EPSILON - _OWN_EPSILON)
    for key in [key for key in values if key.endswith("/bias")]:
        mean = f"{layer_name.norm_of(key[: -len('/bias')])}/moving_mean"
        if mean in values:
            values[mean] = values[mean] - values.pop(key)


def _move_heads(values: dict) -> None:
    """Orders logits anchor by anchor, and moves offsets to where our anchors stand."""
    for stride, sizes in zip(_STRIDES, _ANCHOR_SIZES):
        level = _LEVELS[str(stride)]
        for leaf in ("kernel", "bias"):
            key = f"class_{level}/{leaf}"
            if key in values and values[key].shape[-1] == 2 * len(sizes):
                # Theirs are background of both anchors, then face of both.
                shape = values[key].shape
                pairs = values[key].reshape(*shape[:-1], 2, len(sizes))
                values[key] = np.swapaxes(pairs, -1, -2).reshape(shape)
        shift = (_FIRST_CENTRE - stride / 2) / np.array(sizes, np.float32)
        for head, count in (("box", 1), ("landmark", 5)):
            key = f"{head}_{level}/bias"
            if key in values and values[key].size % len(sizes) == 0:
                rows = values[key].reshape(len(sizes), -1).copy()
                rows[:, : 2 * count] += shift[:, None]
                values[key] = rows.reshape(-1)


def _layer_name(prefix: str) -> str:
    """Returns a layer's name in Keras from its module's in PyTorch; those of Keras come back as they are."""
    if match := re.fullmatch(r"face_rpn_(stride\d+)\.(\w+)", prefix):
        return f"face_rpn_{match[2]}_{match[1]}"
    return prefix.replace(".", "_")


def _layer_of(name: str) -> str | None:
    convolution = name[: -len("_bn")] if name.endswith("_bn") else name
    if name in _FIXED:
        return _FIXED[name]
    if convolution in _FIXED:
        return torch_name.part(_FIXED[convolution], True)
    if (match := re.fullmatch(r"stage([1-4])_unit(\d+)_(\w+)", name)) and match[3] in _UNIT:
        return f"C{int(match[1]) + 1}_{int(match[2]) - 1}_{_UNIT[match[3]]}"
    if (match := re.fullmatch(r"ssh_m([123])_det_(\w+)", convolution)) and match[2] in _CONTEXT:
        return torch_name.part(f"context_P{int(match[1]) + 2}_{_CONTEXT[match[2]]}", convolution != name)
    if (match := re.fullmatch(r"face_rpn_(\w+)_stride(\d+)", name)) and match[1] in _HEADS and match[2] in _LEVELS:
        return f"{_HEADS[match[1]]}_{_LEVELS[match[2]]}"
    return None
