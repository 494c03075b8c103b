"""Callbacks that look at the model after an epoch: `model.keras`, average precision, the best model, TensorBoard."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_retinaface import atomic
from keras_retinaface.evaluation import runner, table, wider_face
from keras_retinaface.inference import detector
from keras_retinaface.inference import view as view_lib
from keras_retinaface.media import drawing, image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import callbacks, weight_average
from keras_retinaface.weights import arrays

# Average precision wants the doubtful detections too; the public numbers are measured so. Pictures do not.
_SCORE_THRESHOLD, _PICTURE_THRESHOLD = 0.02, 0.5
_AP = "ap_{}"
# What decides which model is best.
_MEAN_AP = _AP.format("mean")
# Steps between two points of the training's curves.
_LOG_EVERY = 10
_MOST_PICTURES = 4
# Of a picture in the log, pixels.
_PICTURE_SIDE = 640


class SaveModel(keras.callbacks.Callback):
    """Writes `model.keras` after every epoch; the file is whole at any moment.

    The model that trains may be spread over devices, compute in half precision and hold other weights than their
    average; what is saved, and what the callbacks behind this one look at, is a copy that is and does none of it.

    Args:
        workdir: folder of the run.
        copy: a RetinaFace of the same config, made outside of any distribution strategy.
        is_chief: whether this worker writes.

    Attributes:
        detector: detector of the copy, doubtful detections included; after every epoch it has that epoch's weights.
    """

    def __init__(self, workdir: str | os.PathLike, copy: model_lib.RetinaFace, *, is_chief: bool = True):
        super().__init__()
        self._path, self._copy, self._is_chief = pathlib.Path(workdir) / "model.keras", copy, is_chief
        # One for all: every other would trace the network again.
        self.detector = detector.Detector(copy, score_threshold=_SCORE_THRESHOLD)

    def on_epoch_end(self, epoch, logs=None):
        """Copies the weights and saves them."""
        with weight_average.averaged(self.model):
            # All workers read: batch norms hold a share of their statistics on each.
            values = arrays.read(self.model)
        arrays.assign(self._copy, values, f"epoch {epoch + 1}")
        if self._is_chief:
            self.save_as(self._path)

    def save_as(self, path: pathlib.Path) -> None:
        """Saves the copy."""
        save(self._copy, path)


class MeasureAp(keras.callbacks.Callback):
    """Adds WIDER FACE's average precision to the logs of every few epochs and keeps the best model as `best.keras`.

    An image that cannot be read counts as one in which nothing was found, in every epoch, and is named once.

    The best has the highest mean over the three subsets, `ap_mean`. Stands behind `SaveModel` and before the callbacks
    that write logs.

    Args:
        workdir: folder of the run.
        saved: the `SaveModel` of the run.
        images: folder of the validation images.
        ground_truth: folder of the official ground truth; images that are not there are left out of it.
        every: epochs.
        epochs: epochs of the run; the last one is measured in any case.
        rows: rows of the history so far.

    Raises:
        FileNotFoundError: if no image is there.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        saved: SaveModel,
        images: str | os.PathLike,
        ground_truth: str | os.PathLike,
        *,
        every: int,
        epochs: int,
        rows: Sequence[Mapping] = (),
    ):
        super().__init__()
        self._path, self._saved, self._images = pathlib.Path(workdir) / "best.keras", saved, images
        truth = wider_face.load_ground_truth(ground_truth)
        self._paths = runner.find_images(images, [f"{name}.jpg" for name in truth.names], is_partial=True)
        self._truth = truth.select([os.path.splitext(path)[0] for path in self._paths])
        self._every, self._epochs, self._told = every, epochs, set()
        self._best = max((float(row[_MEAN_AP]) for row in rows if row.get(_MEAN_AP)), default=-1.0)

    def on_epoch_end(self, epoch, logs=None):
        """Detects in all images."""
        if (epoch + 1) % self._every and epoch + 1 < self._epochs:
            return
        predictions, _ = runner.detect(self._saved.detector, self._images, self._paths, on_broken=self._tell)
        numbers = wider_face.evaluate(table.stack(predictions, self._truth.names), self._truth)
        precisions = {_AP.format(subset): float(numbers[subset]) for subset in wider_face.SUBSETS}
        # A small folder may have no faces of a subset, whose precision is then not a number.
        mean = float(np.nanmean(list(precisions.values())))
        if logs is not None:
            logs.update(precisions, **{_MEAN_AP: mean})
        # At equal AP the later model has seen more.
        if mean >= self._best:
            self._best = mean
            self._saved.save_as(self._path)

    def _tell(self, error: ValueError) -> None:
        if str(error) not in self._told:
            self._told.add(str(error))
            logging.error("%s; its faces count as not found", error)


class WriteTensorBoard(keras.callbacks.Callback):
    """Writes losses, learning rate and images with detections for TensorBoard; the axis is the step of the training.

    Args:
        directory: folder for the logs.
        position: place of the training.
        saved: the `SaveModel` of the run.
        pictures: uint8 `[H, W, 3]` each, RGB, to draw detections on after every epoch; the first few are taken.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        position: callbacks.Position,
        saved: SaveModel,
        pictures: Sequence[np.ndarray] = (),
    ):
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(directory))
        self._position, self._pictures = position, [_fit(picture) for picture in pictures[:_MOST_PICTURES]]
        self._saved = saved

    def on_train_batch_end(self, batch, logs=None):
        """Writes the means of the epoch so far, and the rate."""
        if self._position.step % _LOG_EVERY == 0:
            self._write("step", {**(logs or {}), "learning_rate": learning_rate(self.model.optimizer)})

    def on_epoch_end(self, epoch, logs=None):
        """Writes what the epoch came to, and the images."""
        self._write("epoch", {**(logs or {}), "learning_rate": learning_rate(self.model.optimizer)})
        with self._writer.as_default(step=self._position.step):
            for index, picture in enumerate(self._pictures):
                found = [face for face in self._saved.detector.detect(picture) if face.score >= _PICTURE_THRESHOLD]
                tf.summary.image(f"detections/{index}", drawing.faces(picture, found)[None])
        self._writer.flush()

    def _write(self, prefix, values):
        with self._writer.as_default(step=self._position.step):
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}/{name}", float(value))


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the rate of the last step or, with Keras 3, of the next."""
    rate = optimizer.learning_rate
    return float(tf.convert_to_tensor(rate(optimizer.iterations) if callable(rate) else rate))


def save(model: keras.Model, path: str | os.PathLike) -> None:
    """Saves a model beside the old file, then takes its place.

    Args:
        model: any.
        path: `.keras`.

    Raises:
        OSError: if it cannot be written; the old file is untouched.
    """
    path = pathlib.Path(path)
    try:
        with atomic.file(path) as partial:
            model.save(partial)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}; the file before is whole") from error


def read_pictures(paths: Iterable[str | os.PathLike]) -> list[np.ndarray]:
    """Reads the first few images that can be read, for `WriteTensorBoard`; tells which of those before could not."""
    pictures = []
    for path in paths:
        if len(pictures) == _MOST_PICTURES:
            break
        try:
            pictures.append(image_file.read(path))
        except image_file.ImageError as error:
            logging.warning("no picture for TensorBoard: %s", error)
    return pictures


def _fit(picture):
    height, width = picture.shape[:2]
    side = min(_PICTURE_SIDE, max(height, width))
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return view_lib.letterbox(picture, size)[0]
