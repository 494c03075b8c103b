"""A run as a library call: what `retinaface train` does, from a config, data and a folder to a trained model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_retinaface import atomic
from keras_retinaface import config as config_lib
from keras_retinaface.inference import runtime
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.network import replica
from keras_retinaface.training import (
    callbacks,
    checkpoint,
    optimizer,
    start,
    validation,
    watchdog,
    weight_average,
    workdir,
)
from keras_retinaface.training import strategy as strategy_lib
from keras_retinaface.weights import arrays, imagenet, norms

# Enough for means over every channel of every layer to settle.
_UNFOLDING_STEPS = 8


class Data(Protocol):
    """What a run learns from; `data_pipeline.feed.Feed` is one.

    Attributes:
        num_records: training images.
        num_validation: images whose losses are reported; 0 for none.
        settings: where the images come from, by flag, ready for JSON: a run goes on with the same only.
        paths: files of images that may be shown.
        has_names: whether `make_batches` knows `with_names`.
        is_remote: whether other processes make the training batches, which may die.
    """

    num_records: int
    num_validation: int
    settings: Mapping[str, Any]
    paths: Sequence[str]
    has_names: bool
    is_remote: bool

    def make_batches(self, config: config_lib.Config, **options) -> tf.data.Dataset:
        """Makes endless training batches; options as of `data_pipeline.dataset.make_dataset`."""
        ...

    def make_validation(self, config: config_lib.Config, **options) -> tf.data.Dataset:
        """Makes the batches whose losses are reported; they end."""
        ...

    def report_left_out(self) -> None:
        """Tells which images could not be used, at the end of a run."""
        ...


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: what it is made of, and how it is watched over; `fit` does it.

    Attributes:
        config: sizes and choices.
        data: what it learns from; opened only after the devices are.
        workdir: folder for everything that the run writes.
        init: weights to start from, see `start.initialise`.
        backbone_weights: ImageNet weights for the backbone, see `imagenet.load`; empty for none.
        steps_per_epoch: batches of an epoch; None for all training images.
        strategy: devices, see `strategy.make`.
        mixed_precision: whether to compute in half precision.
        resume: whether to go on from the workdir's last checkpoint; if not, what lies there is moved aside.
        save_every: steps between two checkpoints.
        val_images: folder of the images that average precision is measured on.
        val_ground_truth: folder of the official WIDER FACE ground truth; None measures no average precision.
        val_every: epochs between two measurements of it.
        worker_timeout: seconds without a step after which a training that needs other processes gives up.
        files: texts to write into the workdir beside `config.json`, by name.
        verbose: as for `model.fit`.
    """

    config: config_lib.Config
    data: Data
    workdir: str | os.PathLike
    init: str = ""
    backbone_weights: str = ""
    steps_per_epoch: int | None = None
    strategy: str = strategy_lib.ONE
    mixed_precision: bool = False
    resume: bool = True
    save_every: int = 200
    val_images: str | os.PathLike | None = None
    val_ground_truth: str | os.PathLike | None = None
    val_every: int = 1
    worker_timeout: float = 600.0
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    verbose: str | int = "auto"

    def __post_init__(self):
        if self.val_ground_truth and not self.val_images:
            raise ValueError(
                "`val_ground_truth` needs `val_images`, which it is the truth of. Received: val_images=None"
            )

    def fit(self) -> keras.Model | None:
        """Trains to the end, from where an earlier call was stopped; what it returns is told in `run`.

        Raises:
            ValueError: if settings, data and workdir do not fit together.
            OSError: if a file cannot be read or written, or TensorFlow gives up.
            FloatingPointError: if a loss is not finite.
        """
        try:
            with contextlib.ExitStack() as stack:
                guards = [stack.enter_context(guard) for guard in self._make_guards()]
                devices = strategy_lib.make(self.strategy)
                stack.enter_context(strategy_lib.joined(devices))
                return self._fit(devices, guards)
        except tf.errors.OpError as error:
            raise strategy_lib.explain(error, self.strategy) from error

    def _fit(self, devices, guards):
        is_chief = strategy_lib.is_chief(devices)
        resumed = workdir.prepare(self.workdir, resume=self.resume, is_chief=is_chief)
        keras.utils.set_random_seed(self.config.training.seed)
        training, folder = self.config.training, pathlib.Path(self.workdir)
        steps = self.steps_per_epoch or max(1, self.data.num_records // training.batch_size)
        num_validation = self.data.num_validation  # which opens the images, before anything is written
        settings = self._settings(steps)
        if resumed is not None:
            checkpoint.check_settings(resumed, settings)
        position = callbacks.Position(steps, resumed.step if resumed else 0)
        strategy_lib.check_agreement(devices, position.step)
        if position.step >= training.epochs * steps:
            logging.info("%s: all %d epochs are done", self.workdir, training.epochs)
            return runtime.load_keras(folder) if (folder / workdir.MODEL).is_file() else None
        if is_chief:
            self._write_files(folder)
        val_data = self._make_validation(devices, num_validation)
        # On one device, in full precision: where the model that trains starts, and what is saved and returned.
        copy = model_lib.RetinaFace(self.config) if resumed else self._make_start()
        model = self._make_model(devices, copy, steps * training.epochs, resumed)
        observers = self._make_callbacks(position, copy, settings, resumed, is_chief)
        logging.info(
            "training on %d images: %d epochs of %d steps of %d images on %d devices, %d weights",
            *(self.data.num_records, training.epochs, steps, training.batch_size),
            *(devices.num_replicas_in_sync, model.count_params()),
        )
        make_batches = functools.partial(self.data.make_batches, self.config)
        _fit_from(
            model,
            lambda step: strategy_lib.distribute(devices, make_batches, training.batch_size, step),
            position,
            epochs=training.epochs,
            observers=guards + observers,
            validation_data=val_data,
            verbose=self.verbose if is_chief else 0,
        )
        self.data.report_left_out()
        logging.info("wrote %s", folder / workdir.MODEL)
        return copy

    def _make_guards(self) -> list[watchdog.Watchdog]:
        """Builds what ends the run when those it waits for are gone."""
        guards = []
        if self.strategy == strategy_lib.MULTI_WORKER:
            guards.append(watchdog.Watchdog(self.worker_timeout, "another worker is gone", strategy_lib.START_ALL))
        if getattr(self.data, "is_remote", False):  # a caller's own data may not say
            suspicion = "no server of --data_service makes batches"
            remedy = "start the servers, then the same command to go on from the last checkpoint"
            guards.append(watchdog.Watchdog(self.worker_timeout, suspicion, remedy, waits_at_epochs=False))
        return guards

    def _settings(self, steps_per_epoch: int) -> dict:
        """Returns what the course of the training depends on, by flag."""
        own = {name: getattr(self, name) for name in ("init", "backbone_weights", "mixed_precision")}
        fields = {name: value for fields in self.config.to_dict().values() for name, value in fields.items()}
        return {**self.data.settings, **fields, **own, "steps_per_epoch": steps_per_epoch}

    def _write_files(self, folder: pathlib.Path) -> None:
        """Writes what is needed to do this run again."""
        for name, text in {workdir.CONFIG: self.config.to_json(), **self.files}.items():
            with atomic.file(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")

    def _make_validation(self, devices, num_records: int):
        if not num_records:
            return None
        make_batches = functools.partial(self.data.make_validation, self.config)
        return strategy_lib.distribute_whole(devices, make_batches, self.config.training.batch_size, num_records)

    def _make_start(self):
        """Builds a model on one device with the weights that training starts from."""
        model = model_lib.RetinaFace(self.config)
        start.initialise(model, self.init)
        if self.backbone_weights:
            imagenet.load(model, self.backbone_weights)
        if self.config.training.use_unfolded_norms:
            logging.info("measuring batch norms on %d images", _UNFOLDING_STEPS * self.config.training.batch_size)
            batches = self.data.make_batches(self.config).take(_UNFOLDING_STEPS)
            norms.unfold_norms(model, (image for image, _ in batches))
        return model

    def _make_model(self, devices, copy, num_steps: int, resumed):
        """Builds the model that trains, compiled, where `copy` or the checkpoint `resumed` stands."""
        with strategy_lib.precision(devices, is_mixed=self.mixed_precision), strategy_lib.scope(devices):
            model = model_lib.RetinaFace(self.config)
            arrays.assign(model, arrays.read(copy), "start")
            start.freeze(model, self.config.training)
            made = optimizer.make_optimizer(self.config.training, num_steps, model)
            # Of itself Keras 3 compiles wherever there is a GPU: no test has seen it, and XLA cannot sum over workers.
            model.compile(optimizer=made, jit_compile=False)
            # Every replica's metrics are those of all; Keras 2 would add them up over workers.
            model.distribute_reduction_method = "first"
            model.optimizer.build(model.trainable_variables)
            weight_average.attach(model, self.config.training.ema_decay)
            if resumed is not None:
                checkpoint.restore(model, resumed)
                logging.info("going on from %s", resumed.path)
        replica.follow_first(arrays.names(model).values())
        return model

    def _make_callbacks(self, position, copy, settings, resumed, is_chief) -> list[keras.callbacks.Callback]:
        """Builds the callbacks of the run, in the order they need."""
        folder = pathlib.Path(self.workdir)
        names_of = self._names_of if self.data.has_names else None
        saved = validation.SaveModel(folder, copy, is_chief=is_chief)
        first = [weight_average.UpdateAverage(), position, callbacks.StopOnNonFinite(position, names_of), saved]
        last = callbacks.SaveCheckpoint(
            position,
            folder / workdir.CHECKPOINTS,
            settings=settings,
            save_every=self.save_every,
            is_chief=is_chief,
            resumed=resumed,
        )
        if not is_chief:
            return [*first, last]
        history = callbacks.WriteHistory(folder / workdir.HISTORY, position.step // position.steps_per_epoch)
        pictures = validation.read_pictures(self._find_pictures())
        boards = validation.WriteTensorBoard(folder / workdir.LOGS, position, saved, pictures)
        return [*first, *self._measure_ap(saved, history.rows), history, boards, last]

    def _measure_ap(self, saved, rows) -> list[keras.callbacks.Callback]:
        if not self.val_ground_truth:
            return []
        epochs = self.config.training.epochs
        where = self.workdir, saved, self.val_images, self.val_ground_truth
        return [validation.MeasureAp(*where, every=self.val_every, epochs=epochs, rows=rows)]

    def _find_pictures(self) -> Sequence[str]:
        """Returns the paths of images to show: those that annotations name, because a folder may hold anything."""
        if self.data.paths:
            return self.data.paths
        folder = self.val_images or ""
        return image_file.find(folder) if os.path.isdir(folder) else []

    def _names_of(self, step: int) -> list[str]:
        """Returns the names of the images of a step; where some are broken themselves, of those only."""
        _, targets = next(iter(self.data.make_batches(self.config, start_step=step, with_names=True)))
        names = [name.decode() for name in targets.pop("image_name").numpy()]
        is_whole = np.all([[np.isfinite(row).all() for row in value.numpy()] for value in targets.values()], axis=0)
        return [name for name, whole in zip(names, is_whole) if not whole] or names


def run(config: config_lib.Config, data: Data, workdir: str | os.PathLike, **options) -> keras.Model | None:
    """Trains as `retinaface train` does: goes on where it stopped, keeps checkpoints, history, the best model and logs.

    Args:
        config: sizes and choices.
        data: what to learn from, as from `data_pipeline.feed.open`.
        workdir: folder for everything that the run writes.
        **options: the other attributes of `Run`.

    Returns:
        The model as it was last saved, with the average of its weights where there is one; None if the run was done
        before and its `model.keras` is gone.

    Raises:
        ValueError: if settings, data and workdir do not fit together.
        OSError: if a file cannot be read or written, or TensorFlow gives up.
        FloatingPointError: if a loss is not finite.
    """
    return Run(config, data, workdir, **options).fit()


def _fit_from(
    model: keras.Model,
    make_batches: Callable[[int], tf.data.Dataset],
    position: callbacks.Position,
    *,
    epochs: int,
    observers: Sequence[keras.callbacks.Callback],
    validation_data,
    verbose: str | int,
) -> None:
    """Runs `model.fit` from where a training stands to its end; batches come by the number of steps already taken."""
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
