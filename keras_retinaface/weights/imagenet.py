"""Reads ImageNet weights of a backbone from a local file: torchvision's layout, or that of `keras.applications`.

Exact, or an error that names what does not fit. Never downloads. Whatever the weights expect of an image beyond
subtracted means (division, BGR) goes into the first kernel.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np
from absl import logging

from keras_retinaface.formats import torch_file
from keras_retinaface.layers import backbone, layer_name, resnet
from keras_retinaface.weights import arrays as arrays_lib
from keras_retinaface.weights import imports, keras_name, torch_name

# Standard deviations of red, green and blue over ImageNet that torchvision divides by, for pixels of 0..255.
_TORCH_DEVIATIONS = 255.0 * np.array((0.229, 0.224, 0.225), np.float32)
_KERAS_MOBILENET_RANGE = 127.5
# What a MobileNetV2 leaves out, by what the first of its blocks beyond is.
_BEYOND = {
    "mobilenet_v2": re.compile(r"features\.18\.|Conv_1(?:_bn)?/"),
    "mobilenet_v2_160": re.compile(r"features\.1[78]\.|block_16_|Conv_1(?:_bn)?/"),
}
_CLASSIFIERS = re.compile(r"(?:fc|classifier)\.|predictions/")


def load(model, path: str | os.PathLike) -> None:
    """Gives a model's backbone the weights of a file; the rest of the model keeps its own.

    Args:
        model: a RetinaFace.
        path: `.npz`, `.pth` or `.pt` of a PyTorch state dict, or `.h5` of a `keras.applications` model.

    Raises:
        ValueError: if the kind of file is unknown, its layout is not the model's, or the weights do not fit exactly.
    """
    path = pathlib.Path(path)
    readers = {".npz": arrays_lib.read_npz, ".pth": torch_file.read, ".pt": torch_file.read, ".h5": _read_h5}
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected one of {sorted(readers)}. Received: {path.suffix!r}")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    arrays = readers[path.suffix](path)
    try:
        values = translate(arrays, model.config.network, str(path), "keras" if path.suffix == ".h5" else "torchvision")
    except (LookupError, TypeError) as error:
        raise ValueError(f"{path}: holds other arrays than a backbone: {error!r}") from error
    names = {layer.name for layer in backbone.layers_up_to(model, "C5")}
    variables = {name: variable for name, variable in arrays_lib.names(model).items() if name.split("/")[0] in names}
    arrays_lib.assign_variables(variables, values, str(path))
    logging.info("backbone: %d arrays from %s", len(values), path)


def translate(arrays: Mapping[str, np.ndarray], network, source: str, layout: str) -> dict[str, np.ndarray]:
    """Translates the arrays of a file to our names.

    Args:
        arrays: arrays by PyTorch name, or by `layer/index` for Keras; classifiers are left out.
        network: the `config.Network` they are for.
        source: what they came from, for errors.
        layout: layout of the arrays, one of `config.LAYOUTS`.

    Returns:
        Arrays by the names of `arrays.names`.

    Raises:
        ValueError: if a name is not of this backbone, or the layout is not the network's.
    """
    name = network.backbone
    if network.image_mean and network.image_mean != backbone.mean(name, network.backbone_layout):
        wanted = backbone.mean(name, network.backbone_layout)
        raise ValueError(f"{source}: needs image_mean={wanted}. Received: image_mean={network.image_mean}")
    arrays = {re.sub(r"^module\.", "", key): np.asarray(array) for key, array in arrays.items()}
    arrays = {key: array for key, array in arrays.items() if not _CLASSIFIERS.match(key)}
    if name in _BEYOND:
        arrays = {key: array for key, array in arrays.items() if not _BEYOND[name].match(key)}
    if name not in (*resnet.DEPTHS, *backbone.MOBILENETS_V2):
        return imports.from_state_dict({f"body.{key}": array for key, array in arrays.items()}, source)
    if layout != network.backbone_layout:
        raise ValueError(
            f"{source}: has the layout of {layout}, which strides or pads elsewhere than the model; "
            f"build it with backbone_layout={layout!r}. Received: backbone_layout={network.backbone_layout!r}"
        )
    layer_of = {
        "torchvision": torch_name.resnet if name in resnet.DEPTHS else torch_name.mobilenet_v2,
        "keras": keras_name.resnet if name in resnet.DEPTHS else keras_name.mobilenet_v2,
    }[layout]
    values: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        prefix, _, leaf = key.rpartition("." if layout == "torchvision" else "/")
        if leaf == torch_name.COUNTER:
            continue
        layer = layer_of(prefix)
        if layer is None:
            raise ValueError(f"{source}: {key} is not a weight of {name} in the layout of {layout}")
        translated = torch_name.to_ours if layout == "torchvision" else _keras_array
        ours, value = translated(layer, leaf, array)
        values[ours] = value
    return _prepared(values, name, layout)


def _prepared(values: dict, name: str, layout: str) -> dict:
    """Moves what ours does otherwise: scales and channel order of the image, biases before a norm."""
    first = ("conv1" if name in resnet.DEPTHS else "mobile_0") + "/kernel"
    if first in values:
        if layout == "torchvision":
            values[first] = values[first] / _TORCH_DEVIATIONS[:, None]
        elif name in resnet.DEPTHS:
            values[first] = values[first][:, :, ::-1]
        else:
            values[first] = values[first] / _KERAS_MOBILENET_RANGE
    for key in [key for key in values if key.endswith("/bias")]:
        # A norm takes a bias away again: it only shifts the stored mean.
        bias, mean = values.pop(key), f"{layer_name.norm_of(key[: -len('/bias')])}/moving_mean"
        if mean in values:
            values[mean] = values[mean] - bias
    return values


def _keras_array(layer: str, index: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    leaf = (layer_name.NORM_ARRAYS if layer_name.is_norm(layer) else ("kernel", "bias"))[int(index)]
    return f"{layer}/{leaf}", array


def _read_h5(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the weights of an HDF5 file that Keras wrote, whole model or weights only, by `layer/index`."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            file.visititems_links(_refuse_links)
            root = file["model_weights"] if "model_weights" in file else file
            if "layer_names" not in root.attrs:
                raise ValueError(f"{path}: holds no Keras layers by name; save it with `model.save('NAME.h5')`")
            return {
                f"{layer}/{index}": _values(root[layer][name])
                for layer in map(_text, root.attrs["layer_names"])
                for index, name in enumerate(map(_text, root[layer].attrs["weight_names"]))
            }
    except (OSError, LookupError, RuntimeError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable .h5 file: {error}") from error


def _values(dataset) -> np.ndarray:
    if dataset.external or dataset.is_virtual:
        raise OSError(f"{dataset.name} lies in another file")
    return np.asarray(dataset)


def _refuse_links(name, link) -> None:
    """Keeps HDF5 from reading what lies in other files."""
    import h5py

    if not isinstance(link, h5py.HardLink):
        raise OSError(f"{name} is a link")


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
