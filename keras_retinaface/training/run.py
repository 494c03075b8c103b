"""What stands around `model.fit`: callbacks, what is frozen, where weights start from, and where a run goes on."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import keras
from absl import logging

from keras_retinaface import config as config_lib
from keras_retinaface.inference import model_file, runtime
from keras_retinaface.layers import backbone, layer_name
from keras_retinaface.training import callbacks, checkpoint, validation, weight_average
from keras_retinaface.weights import arrays

# What a run writes into its workdir.
CHECKPOINTS, HISTORY, LOGS = "checkpoints", "history.csv", "logs"
_WRITTEN = (CHECKPOINTS, HISTORY, LOGS, "config.json", "run.flags", "model.keras", "best.keras")


def freeze(model: keras.Model, training: config_lib.Training) -> None:
    """Makes layers keep their weights, and batch norms use and keep their stored mean and variance.

    Args:
        model: a RetinaFace.
        training: which norms, how many stages of the backbone, or all but the dense head.
    """
    if training.frozen_stages:
        for layer in backbone.layers_up_to(model, f"C{training.frozen_stages}"):
            layer.trainable = False
    if training.use_frozen_detector:
        freeze_detector(model)
    norms = model.layers if training.use_frozen_norms else []
    if training.use_frozen_backbone_norms and not norms:
        norms = backbone.layers_up_to(model, "C5")
    for layer in norms:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def initialise(model: keras.Model, init: str) -> None:
    """Sets a model's weights from where a run should start; exact or error.

    Args:
        model: a RetinaFace.
        init: a preset with shipped weights, a workdir, a `.keras`, `.weights.h5` or `.npz` file, or empty for the
            random weights that the model has.

    Raises:
        ValueError: if there is nothing of that name or it does not fit.
    """
    if not init:
        return
    if init.endswith(".npz"):
        arrays.assign(model, _with_own_dense(model, arrays.read_npz(init)), init)
    elif init.endswith(".weights.h5"):
        if not pathlib.Path(init).is_file():
            raise ValueError(f"`init`: {init}: no such file")
        model_file.load_weights(model, init)
    else:
        source = runtime.load_keras(init)
        values = arrays.read(source)
        arrays.assign(model, _with_own_dense(model, values), init)
    logging.info("starting from %s", init)


def _with_own_dense(model, values):
    """Lets a dense head start where it stands when the source has none at all."""
    dense = [layer.name for layer in model.layers if layer_name.part_of(layer.name) == layer_name.MESH_HEAD]
    if any(name.split("/")[0] in dense for name in values):
        return values
    own = {name: value.numpy() for name, value in arrays.names(model).items() if name.split("/")[0] in dense}
    return {**values, **own}


def freeze_detector(model: keras.Model) -> None:
    """Lets nothing but the dense head learn.

    Args:
        model: a RetinaFace.

    Raises:
        ValueError: if it has no dense head.
    """
    if not model.config.network.dense:
        raise ValueError("`use_frozen_detector` needs a dense head: set `dense`")
    for layer in model.layers:
        layer.trainable = layer_name.part_of(layer.name) == layer_name.MESH_HEAD


def prepare_workdir(workdir: str | os.PathLike, *, resume: bool, is_chief: bool = True) -> checkpoint.Checkpoint | None:
    """Makes a workdir that can be written, and finds the checkpoint to go on from.

    Args:
        workdir: folder of the run.
        resume: whether to go on from the checkpoints that lie there; if not, what an earlier run has written is moved
            into a folder of its own.
        is_chief: whether this worker is the one that moves files.

    Returns:
        The newest whole checkpoint, or None to start anew.

    Raises:
        OSError: if the workdir cannot be written.
        ValueError: if there are checkpoints and all are damaged.
    """
    workdir = pathlib.Path(workdir)
    try:
        (workdir / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe_{os.getpid()}"
        probe.write_bytes(b"1")
        probe.unlink()
    except OSError as error:
        raise OSError(f"`workdir` cannot be written: {error.strerror}: {workdir}") from error
    if resume:
        return checkpoint.latest(workdir / CHECKPOINTS, is_chief=is_chief)
    if is_chief:
        _set_aside(workdir)
    return None


def _set_aside(workdir):
    """Moves what an earlier run has written into `earlier_N`."""
    found = [workdir / name for name in _WRITTEN if (workdir / name).exists()]
    if not any((workdir / CHECKPOINTS).iterdir()) and found == [workdir / CHECKPOINTS]:
        return
    number = 1 + sum(1 for _ in workdir.glob("earlier_*"))
    aside = workdir / f"earlier_{number:03d}"
    aside.mkdir()
    for path in found:
        os.replace(path, aside / path.name)
    (workdir / CHECKPOINTS).mkdir()
    logging.info("moved what an earlier run has written to %s", aside)


def fit(
    model: keras.Model,
    make_batches: Callable,
    position: callbacks.Position,
    *,
    epochs: int,
    observers: Sequence[keras.callbacks.Callback],
    validation_data=None,
    verbose: str | int = "auto",
) -> None:
    """Runs `model.fit` from where a training stands to its end.

    Args:
        model: compiled.
        make_batches: from a number of steps already taken to a dataset without end.
        position: of the training.
        epochs: of the whole training.
        observers: from `make_callbacks`.
        validation_data: as for `model.fit`.
        verbose: as for `model.fit`.
    """
    while position.step < epochs * position.steps_per_epoch:
        start = position.step
        epoch, num_done = divmod(start, position.steps_per_epoch)
        model.fit(
            make_batches(start),
            initial_epoch=epoch,
            # The rest of an interrupted epoch is shorter than the others, so it has a call of its own.
            epochs=epoch + 1 if num_done else epochs,
            steps_per_epoch=position.steps_per_epoch - num_done,
            validation_data=validation_data,
            callbacks=list(observers),
            shuffle=False,  # the dataset does; Keras 3 warns of anything else
            verbose=verbose,
        )
        if position.step == start or not position.is_between_epochs:
            raise ValueError(f"step {position.step}: the training data ended")


def make_callbacks(
    workdir: str | os.PathLike,
    position: callbacks.Position,
    copy: keras.Model,
    *,
    settings: Mapping,
    save_every: int,
    resumed: checkpoint.Checkpoint | None = None,
    names_of: Callable[[int], list[str]] | None = None,
    measure_ap: Callable[..., keras.callbacks.Callback] | None = None,
    pictures: Sequence = (),
    is_chief: bool = True,
) -> list[keras.callbacks.Callback]:
    """Builds the callbacks of a run, in the order they need.

    Args:
        workdir: folder of the run, prepared.
        position: of the training.
        copy: see `validation.SaveModel`.
        settings: what the course of the training depends on, by flag, ready for JSON.
        save_every: steps between checkpoints.
        resumed: the checkpoint to go on from.
        names_of: see `callbacks.StopOnNonFinite`.
        measure_ap: from `workdir`, `saved` and the `rows` of the history so far to a `validation.MeasureAp`, or None.
        pictures: see `validation.WriteTensorBoard`.
        is_chief: whether this worker writes anything.
    """
    workdir = pathlib.Path(workdir)
    saved = validation.SaveModel(workdir, copy, is_chief=is_chief)
    first = [weight_average.UpdateAverage(), position, callbacks.StopOnNonFinite(position, names_of), saved]
    last = callbacks.SaveCheckpoint(
        position,
        workdir / CHECKPOINTS,
        settings=settings,
        save_every=save_every,
        is_chief=is_chief,
        resumed=resumed,
    )
    if not is_chief:
        return [*first, last]
    history = callbacks.WriteHistory(workdir / HISTORY, position.step // position.steps_per_epoch)
    return [
        *first,
        *([measure_ap(workdir, saved, rows=history.rows)] if measure_ap else []),
        history,
        validation.WriteTensorBoard(workdir / LOGS, position, saved, pictures),
        last,
    ]
