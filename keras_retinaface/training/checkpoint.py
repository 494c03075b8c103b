"""Checkpoints of a training: all that it needs to go on as if nothing had stopped it, in one file a moment.

Says what goes into a file and keeps files whole; when to write one is `callbacks`' business.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping

import numpy as np
from absl import logging

from keras_retinaface import atomic
from keras_retinaface import config as config_lib
from keras_retinaface.weights import arrays as arrays_lib

_NAME = "step_{:08d}.npz"
_PATTERN = re.compile(r"step_(\d+)\.npz")
_DAMAGED = ".damaged"
# Entries of a file besides variables.
_STEP, _SETTINGS = "step", "settings"
_METRIC = "metric/"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A moment of a training.

    Attributes:
        path: path of its file.
        step: steps taken.
        settings: what the course of the training depends on, by flag.
        values: arrays by the names of `variables`.
    """

    path: pathlib.Path
    step: int
    settings: dict
    values: dict[str, np.ndarray]


def variables(model) -> dict:
    """Returns every variable that training changes, by name: weights, optimizer, running metrics, average of weights.

    Args:
        model: a compiled RetinaFace whose optimizer is built.
    """
    named = {f"weight/{name}": variable for name, variable in arrays_lib.names(model).items()}
    optimizer = model.optimizer
    groups = {
        "optimizer/": [*optimizer.variables, *_loss_scale(optimizer)],
        _METRIC: [variable for metric in model.metrics for variable in metric.variables],
        "average/": getattr(getattr(model, "weight_average", None), "variables", []),
    }
    for prefix, group in groups.items():
        # Keras names them differently from run to run; their order is fixed.
        named.update({f"{prefix}{index:04d}": variable for index, variable in enumerate(group)})
    return named


def _loss_scale(optimizer) -> list:
    # Keras 3 counts them among its variables, Keras 2 shows them to nobody.
    state = getattr(optimizer, "_loss_scale", None)
    return [state.current_loss_scale, state.counter] if hasattr(state, "counter") else []


def read(model) -> dict[str, np.ndarray]:
    """Returns the values of `variables`. Training on several workers, all of them call it together."""
    return {name: np.asarray(variable.numpy()) for name, variable in variables(model).items()}


def write(
    directory: str | os.PathLike, step: int, values: Mapping[str, np.ndarray], settings: Mapping, *, keep: int
) -> pathlib.Path:
    """Writes a checkpoint that appears whole or not at all, then removes the oldest.

    Args:
        directory: folder that exists.
        step: steps taken.
        values: as from `read`.
        settings: what the course of the training depends on, ready for JSON.
        keep: checkpoints that stay.

    Returns:
        The path of the file.

    Raises:
        FloatingPointError: if a number is not finite; nothing is written then.
        OSError: if the file cannot be written; the checkpoints before are untouched.
    """
    broken = [name for name, value in values.items() if not np.all(np.isfinite(value))]
    if broken:
        raise FloatingPointError(
            f"step {step}: {len(broken)} of {len(values)} variables are not finite, as {broken[0]}; no checkpoint was "
            "written; lower --learning_rate?"
        )
    directory = pathlib.Path(directory)
    path = directory / _NAME.format(step)
    try:
        with atomic.file(path, is_durable=True) as partial, open(partial, "wb") as file:
            _write_arrays(file, {_STEP: np.int64(step), _SETTINGS: np.array(json.dumps(settings)), **values})
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}; those before are whole") from error
    for old in _paths(directory)[keep:]:
        old.unlink()
    return path


def _write_arrays(file, arrays):
    # Not compressed: that would take seconds, and weights hardly shrink. Not np.savez, which leaves its archive open
    # when the disk is full. Reading checks the sums of a zip file.
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)


def latest(directory: str | os.PathLike, *, is_chief: bool = True) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole; says which ones are not.

    Args:
        directory: need not exist.
        is_chief: whether to put damaged files aside, so that they do not count when the oldest are removed.

    Returns:
        The checkpoint, or None if there are no files.

    Raises:
        ValueError: if there are files and all are damaged.
    """
    paths = _paths(pathlib.Path(directory))
    for path in paths:
        try:
            return _read(path)
        except ValueError as error:
            logging.warning("%s; falling back to the checkpoint before", error)
            if is_chief:
                os.replace(path, path.with_name(path.name + _DAMAGED))
    if paths:
        raise ValueError(f"{directory}: all of {len(paths)} checkpoints are damaged; --resume=false starts anew")
    return None


def _read(path: pathlib.Path) -> Checkpoint:
    values = arrays_lib.read_npz(path)
    step, settings = values.pop(_STEP, None), values.pop(_SETTINGS, None)
    if step is None or step.shape or step.dtype.kind not in "iu" or step < 0:
        raise ValueError(f"{path}: expected a number of steps in `{_STEP}`. Received: {step!r}")
    try:
        said = json.loads(str(settings))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: `{_SETTINGS}` is damaged: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path}: expected an object in `{_SETTINGS}`. Received: {said!r}")
    return Checkpoint(path, int(step), said, values)


def restore(model, checkpoint: Checkpoint) -> None:
    """Sets every variable of a training, all of them or none.

    Args:
        model: a compiled RetinaFace whose optimizer is built.
        checkpoint: checkpoint of the same training.

    Raises:
        ValueError: if it does not fit.
    """
    targets = variables(model)
    arrays_lib.check(targets, checkpoint.values, str(checkpoint.path))
    for name, variable in targets.items():
        variable.assign(checkpoint.values[name])


def restore_metrics(model, checkpoint: Checkpoint) -> None:
    """Sets the running metrics only, which Keras forgets when an epoch begins."""
    for name, variable in variables(model).items():
        if name.startswith(_METRIC):
            variable.assign(checkpoint.values[name])


def check_settings(checkpoint: Checkpoint, settings: Mapping) -> None:
    """Makes sure that a training goes on as it began.

    Args:
        checkpoint: checkpoint of the training.
        settings: settings of now, ready for JSON.

    Raises:
        ValueError: if any differ; names them as flags.
    """
    now = json.loads(json.dumps(settings))
    # What could not be set when a training began stood where it stands by default.
    defaults = {name: value for fields in config_lib.Config().to_dict().values() for name, value in fields.items()}
    then = {name: json.loads(json.dumps(value)) for name, value in defaults.items() if name in now}
    then.update(checkpoint.settings)
    differing = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if differing:
        said = ", ".join(f"--{name}={_text(then, name)} then, {_text(now, name)} now" for name in differing)
        raise ValueError(
            f"{checkpoint.path} was trained with other settings ({said}). To go on, give them as then; "
            "--resume=false starts anew and keeps the old files beside the new, and so does another --workdir"
        )


def _text(settings: Mapping, name: str) -> str:
    value = settings.get(name)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _paths(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files, newest first."""
    found = {path: _PATTERN.fullmatch(path.name) for path in directory.glob("*.npz")}
    return sorted((path for path, match in found.items() if match), key=lambda path: -int(found[path].group(1)))
