"""The checkpoints of biubug6, ternaus and yakhyo: one network in PyTorch, with many backbones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface import image_mean
from keras_retinaface.layers import layer_name
from keras_retinaface.weights import torch_name

# How each calls its backbone; ternaus's network is biubug6's.
_ROOTS = {"biubug6": "body.", "ternaus": "body.", "yakhyo": "fx."}
_BEHIND = ("fpn.", "ssh", "ClassHead", "BboxHead", "LandmarkHead", "class_head", "bbox_head", "landmark_head")
_NEEDED = "fpn.output1.0.weight"
_STEMS = ("stage1_0/kernel", "conv1/kernel", "mobile_0/kernel")
# Standard deviations of red, green and blue over ImageNet that ternaus divides by, for pixels of 0..255.
_DEVIATIONS = 255.0 * np.array((0.229, 0.224, 0.225), np.float32)
# Up to so many channels the pyramid has leaky ReLUs of this slope; MobileNetV1 has them always.
_LEAKY_CHANNELS, _SLOPE = 64, 0.1
_MOBILENETS = {8: "mobilenet025", 16: "mobilenet050", 32: "mobilenet100"}
# (blocks of the third stage, whether a block has three convolutions).
_RESNETS = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (36, True): "resnet152"}
# Variance behind the first convolution over the squared length of its filters: near one for images of unit variance,
# thousands for pixels of 0..255.
_PIXEL_RATIO = 100.0


def is_known(state: Mapping[str, np.ndarray]) -> bool:
    """Returns whether a state dict is of one of these projects, by its names."""
    return _NEEDED in state and any(name.startswith(tuple(_ROOTS.values())) for name in state)


def project_of(state: Mapping[str, np.ndarray], project: str = "") -> str:
    """Returns whose a state dict is.

    Names and shapes of biubug6's and ternaus's ResNet-50 are the same, but one saw pixels of 0..255, the other images
    of unit variance; the first norm has noted which.

    Args:
        state: arrays by name, that `is_known` takes.
        project: what the user says, which decides where names leave two.
    """
    if any(name.startswith(_ROOTS["yakhyo"]) for name in state):
        return "yakhyo"
    if "body.conv1.weight" not in state or "body.bn1.running_var" not in state:
        return "biubug6"
    if project in ("biubug6", "ternaus"):
        return project
    length = np.sum(np.square(state["body.conv1.weight"], dtype=np.float64), axis=(1, 2, 3))
    ratio = np.median(state["body.bn1.running_var"] / np.maximum(length, 1e-12))
    return "biubug6" if ratio > _PIXEL_RATIO else "ternaus"


def shapes_of(state: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of arrays by our names; those of no layer are left out."""
    layers = {name: layer_of(name.rpartition(".")[0]) for name in state if name.endswith(".weight")}
    return {f"{layer}/kernel": state[name].shape for name, layer in layers.items() if layer and state[name].ndim == 4}


def config_of(shapes: Mapping[str, tuple[int, ...]], source: str, project: str) -> config_lib.Config:
    """Returns the config of the network that has arrays of these shapes.

    Args:
        shapes: shapes of kernels in PyTorch's order, (out, in, height, width), by our names.
        source: what they came from, for errors.
        project: whose they are.

    Raises:
        ValueError: if there is no such network.
    """
    if "lateral_P3/kernel" not in shapes:
        raise ValueError(f"{source}: holds no pyramid, {_NEEDED}")
    channels = shapes["lateral_P3/kernel"][0]
    backbone = _backbone(shapes)
    if backbone is None or channels % 4:
        stem = {name: shapes[name] for name in _STEMS if name in shapes}
        raise ValueError(f"{source}: its backbone is none that is known. Received: {stem}, {channels} channels")
    is_leaky, is_mobilenet = channels <= _LEAKY_CHANNELS, backbone in _MOBILENETS.values()
    has_own_mean = is_mobilenet or project == "ternaus"  # that of our backbone
    return config_lib.Config().replace(
        backbone=backbone,
        image_mean=() if has_own_mean else image_mean.PUBLIC,
        pyramid_channels=channels,
        negative_slope=_SLOPE if is_leaky or is_mobilenet else 0.0,
        use_plain_pyramid=is_mobilenet and not is_leaky,
    )


def _backbone(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    if "stage1_0/kernel" in shapes:
        return _MOBILENETS.get(shapes["stage1_0/kernel"][0])
    if "mobile_0/kernel" in shapes:
        return "mobilenet_v2_1280" if "mobile_18/kernel" in shapes else None
    blocks = sum(name.startswith("C4_") and name.endswith("_conv1/kernel") for name in shapes)
    return _RESNETS.get((blocks, "C2_0_conv3/kernel" in shapes))


def translate(state: Mapping[str, np.ndarray], source: str, project: str) -> dict[str, np.ndarray]:
    """Translates a state dict, or a part of one.

    Args:
        state: arrays by PyTorch name.
        source: what they came from, for errors.
        project: whose they are.

    Returns:
        Arrays by the names of `arrays.names`.

    Raises:
        ValueError: if a name is of no layer; names it.
    """
    values: dict[str, np.ndarray] = {}
    for name, array in state.items():
        prefix, _, leaf = name.rpartition(".")
        if leaf == torch_name.COUNTER:
            continue
        layer = layer_of(prefix)
        if layer is None:
            raise ValueError(f"{source}: {name} is not a weight of a RetinaFace of {project}")
        try:
            ours, value = torch_name.to_ours(layer, leaf, np.asarray(array))
        except ValueError as error:
            raise ValueError(f"{source}: {name}: {error}") from error
        values[ours] = value
    for stem in _STEMS:
        if stem in values:
            values[stem] = to_rgb(values[stem], project)
    return values


def to_rgb(kernel: np.ndarray, project: str) -> np.ndarray:
    """Returns the first kernel, `[height, width, 3, filters]`, for RGB less its mean."""
    return kernel / _DEVIATIONS[:, None] if project == "ternaus" else kernel[:, :, ::-1]


def layer_of(prefix: str) -> str | None:
    """Returns our layer for a module of theirs, or None."""
    root = next((root for root in _ROOTS.values() if prefix.startswith(root)), None)
    if root is None:
        return torch_name.behind_backbone(prefix) if prefix.startswith(_BEHIND) else None
    inner = prefix[len(root) :]
    found = torch_name.mobilenet_v1(inner) or torch_name.mobilenet_v2(inner) or torch_name.resnet(inner)
    return found if found and layer_name.part_of(found) == layer_name.BACKBONE else None
