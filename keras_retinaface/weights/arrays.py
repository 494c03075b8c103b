"""Weights of a model as one flat `.npz`, the same on Keras 2 and Keras 3. Loading is exact or raises."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping

import numpy as np

from keras_retinaface import atomic
from keras_retinaface.formats import npz_file


def names(model) -> dict:
    """Returns the model's variables by `layer/variable`, the same names on every Keras.

    Args:
        model: a keras.Model whose layers are flat and uniquely named.
    """
    return {f"{layer.name}/{_leaf(variable)}": variable for layer in model.layers for variable in layer.weights}


def is_decayed(variable) -> bool:
    """Returns whether weight decay may pull a variable: not those of norms and biases, which it costs accuracy.

    Nor the offsets of deformable convolutions: they learn at a tenth of the rate, so a full pull would win.
    """
    return _leaf(variable) == "kernel"


def _leaf(variable) -> str:
    leaf = variable.name.split("/")[-1].split(":")[0]
    return "kernel" if leaf == "depthwise_kernel" else leaf  # Keras 2 says which kernel it is, Keras 3 does not


def read(model) -> dict[str, np.ndarray]:
    """Returns the values of every weight, by the names of `names`."""
    return {name: np.asarray(variable.numpy()) for name, variable in names(model).items()}


def assign(model, values: Mapping[str, np.ndarray], source: str) -> None:
    """Sets every weight of a model.

    Args:
        model: a keras.Model.
        values: arrays by the names of `names`.
        source: what the values came from, for the error.

    Raises:
        ValueError: if a name is missing or left over, a shape differs, or a number is not finite; the model is then
            unchanged.
    """
    assign_variables(names(model), values, source)


def assign_variables(variables: Mapping, values: Mapping[str, np.ndarray], source: str) -> None:
    """Sets variables by name, all of them or none; arguments and errors as for `assign`."""
    check(variables, values, source)
    for name, variable in variables.items():
        variable.assign(np.asarray(values[name], np.float32))


def check(variables: Mapping, values: Mapping[str, np.ndarray], source: str) -> None:
    """Makes sure that values fit variables; arguments and errors as for `assign`."""
    missing, unknown = sorted(set(variables) - set(values)), sorted(set(values) - set(variables))
    if missing or unknown:
        raise ValueError(
            f"{source}: does not fit the model: {len(missing)} weights missing (first: {missing[:3]}), "
            f"{len(unknown)} unknown (first: {unknown[:3]})"
        )
    for name, variable in variables.items():
        if tuple(variable.shape) != tuple(values[name].shape):
            raise ValueError(
                f"{source}: {name} must have shape {tuple(variable.shape)}. Received: {tuple(values[name].shape)}"
            )
        if values[name].dtype.kind not in "biuf":
            raise ValueError(f"{source}: {name} must hold numbers. Received: {values[name].dtype}")
        if not np.all(np.isfinite(values[name])):
            raise ValueError(f"{source}: {name} holds numbers that are not finite")


def load(model, path: str | os.PathLike) -> None:
    """Loads a file that `save` wrote.

    Args:
        model: a keras.Model.
        path: path of the `.npz`.

    Raises:
        ValueError: if the file is not an `.npz` or does not fit.
    """
    assign(model, read_npz(path), str(path))


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz`, see `npz_file.read`."""
    return npz_file.read(path)


def save(model, path: str | os.PathLike) -> None:
    """Writes every weight as float32, atomically.

    Args:
        model: a keras.Model.
        path: path of the `.npz`.
    """
    write_npz(path, read(model))


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to an `.npz` that appears whole or not at all; the same arrays give the same bytes."""
    with atomic.file(path) as partial, open(partial, "wb") as file:
        # np.savez stamps the time into the archive, and the checksum of an asset should not depend on it.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(arrays):
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(arrays[name]), allow_pickle=False)
