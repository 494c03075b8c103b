"""Callbacks that keep a training safe: its position, its checkpoints, its history, and the stop at a broken loss."""

from __future__ import annotations

import csv
import io
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping

import keras
from absl import logging

from keras_retinaface import atomic
from keras_retinaface.training import checkpoint as checkpoint_lib

_EPOCH = "epoch"
# What Python writes for a float; the cell of an epoch that something was not measured in is empty.
_NUMBER = re.compile(r"(?:-?(?:[0-9]{1,30}(?:\.[0-9]{1,30})?(?:e[-+]?[0-9]{1,3})?|inf)|nan)?")
_TO_GO_ON = "mend it to go on, or remove it to go on without the rows before"


class Position(keras.callbacks.Callback):
    """Counts the steps of the whole training, over interruptions; stands before the callbacks that ask it.

    Args:
        steps_per_epoch: batches of an epoch.
        step: steps taken before.

    Attributes:
        step: steps taken.
        steps_per_epoch: as given.
    """

    def __init__(self, steps_per_epoch: int, step: int = 0):
        super().__init__()
        self.steps_per_epoch, self.step = steps_per_epoch, step

    def on_train_batch_end(self, batch, logs=None):
        """Counts."""
        self.step += 1

    @property
    def is_between_epochs(self) -> bool:
        """Whether the last step of an epoch has been taken and the first of the next has not."""
        return self.step % self.steps_per_epoch == 0


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops training with an error that names the loss, the step and the images as soon as a loss is not finite.

    Args:
        position: place of the training.
        names_of: function from a step, counted from 0, to the names of its images; None leaves them out.
    """

    def __init__(self, position: Position, names_of: Callable[[int], list[str]] | None = None):
        super().__init__()
        self._position, self._names_of = position, names_of

    def on_train_batch_end(self, batch, logs=None):
        """Checks the running means."""
        broken = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if broken:
            # Read again only now: carried along, names would be copied with every batch.
            names = self._names_of(self._position.step - 1) if self._names_of else []
            images = f"; its images: {', '.join(names)}" if names else ""
            raise FloatingPointError(
                f"step {self._position.step}: {', '.join(broken)} is not finite; lower --learning_rate?{images}"
            )


class SaveCheckpoint(keras.callbacks.Callback):
    """Writes a checkpoint every so many steps and after every epoch; the last of the callbacks.

    Args:
        position: place of the training.
        directory: folder for the files; it exists.
        settings: what the course of the training depends on, by flag, ready for JSON.
        save_every: steps.
        keep: checkpoints that stay.
        is_chief: whether this worker writes.
        resumed: the checkpoint that the training goes on from.
    """

    def __init__(
        self,
        position: Position,
        directory: str | os.PathLike,
        *,
        settings: Mapping,
        save_every: int,
        keep: int = 3,
        is_chief: bool = True,
        resumed: checkpoint_lib.Checkpoint | None = None,
    ):
        super().__init__()
        self._position, self._directory = position, pathlib.Path(directory)
        self._settings, self._save_every, self._keep = dict(settings), save_every, keep
        self._is_chief, self._resumed = is_chief, resumed

    def on_epoch_begin(self, epoch, logs=None):
        """Goes on with the running means of the epoch that was interrupted."""
        if self._resumed is not None and not self._position.is_between_epochs:
            checkpoint_lib.restore_metrics(self.model, self._resumed)
        self._resumed = None

    def on_train_batch_end(self, batch, logs=None):
        """Saves within an epoch."""
        # After the last step the epoch's row of the history is still to come; a checkpoint now would lose it.
        if self._position.step % self._save_every == 0 and not self._position.is_between_epochs:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        """Saves after an epoch."""
        self._save()

    def _save(self):
        # All workers read: batch norms hold a share of their statistics on each.
        values = checkpoint_lib.read(self.model)
        if self._is_chief:
            path = checkpoint_lib.write(self._directory, self._position.step, values, self._settings, keep=self._keep)
            logging.debug("wrote %s", path)


class WriteHistory(keras.callbacks.Callback):
    """Writes one row an epoch to a CSV file that is whole at any moment; it keeps the rows of earlier runs.

    Args:
        path: path of the file.
        first_epoch: the one that training starts with or in the middle of, counted from 0; rows from it on are of
            a time after the checkpoint, and go.
    """

    def __init__(self, path: str | os.PathLike, first_epoch: int = 0):
        super().__init__()
        self._path = pathlib.Path(path)
        self.rows = [row for row in read_history(path) if int(row[_EPOCH]) < first_epoch] if first_epoch else []

    def on_epoch_end(self, epoch, logs=None):
        """Adds a row."""
        self.rows.append({_EPOCH: epoch, **{name: float(value) for name, value in (logs or {}).items()}})
        # What is measured every few epochs only has empty cells in the others.
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic.file(self._path) as partial:
            partial.write_text(text.getvalue(), encoding="utf-8")


def read_history(path: str | os.PathLike) -> list[dict[str, str]]:
    """Returns the rows of a `history.csv`, none if there is no file.

    Raises:
        ValueError: if a row is damaged; names the line.
    """
    if not os.path.isfile(path):
        return []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable .csv file: {error}; {_TO_GO_ON}") from error
    columns = lines[0] if lines else []
    if columns[:1] != [_EPOCH] or len(set(columns)) < len(columns) or "" in columns:
        raise ValueError(f"{path}:1: expected names, the first `{_EPOCH}`. Received: {columns}; {_TO_GO_ON}")
    rows: list[dict[str, str]] = []
    for number, cells in enumerate(lines[1:], 2):
        if len(cells) != len(columns) or not _is_row(cells, int(rows[-1][_EPOCH]) if rows else -1):
            raise ValueError(
                f"{path}:{number}: expected {len(columns)} cells, a rising epoch and numbers. "
                f"Received: {','.join(cells)[:80]!r}; {_TO_GO_ON}"
            )
        rows.append(dict(zip(columns, cells)))
    return rows


def _is_row(cells: list[str], last_epoch: int) -> bool:
    """Returns whether a row holds an epoch behind `last_epoch` and numbers or nothing."""
    if not re.fullmatch(r"[0-9]{1,9}", cells[0]) or int(cells[0]) <= last_epoch:
        return False
    return all(re.fullmatch(_NUMBER, cell) for cell in cells[1:])
