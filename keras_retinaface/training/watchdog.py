"""Ends a training that waits for somebody who will not come."""

from __future__ import annotations

import math
import os
import threading
import time

import keras
from absl import logging


class Watchdog(keras.callbacks.Callback):
    """Ends the process when training makes no step for too long, as when another worker is gone or never came.

    A thread, because the main one then waits inside TensorFlow and cannot be interrupted; it watches as long as the
    training is inside `with`.

    Args:
        seconds: seconds without a step, the start included, until the process ends with status 1.
        suspicion: what is the matter then, most likely.
        remedy: what to do about it.
        waits_at_epochs: whether what this process does by itself between epochs counts too, as others wait for it.
    """

    def __init__(self, seconds: float, suspicion: str, remedy: str, *, waits_at_epochs: bool = True):
        super().__init__()
        self._waits_at_epochs = waits_at_epochs
        self._seconds, self._suspicion, self._remedy = seconds, suspicion, remedy
        self._last, self._is_over = time.monotonic(), threading.Event()

    def __enter__(self):
        """Begins to watch."""
        self._last = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        """Lets the process live on, whatever it does next."""
        self._is_over.set()

    def on_epoch_begin(self, epoch, logs=None):
        """Takes note that steps begin."""
        self._last = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Waits for nobody until the next epoch, if that is so."""
        if not self._waits_at_epochs:
            self._last = math.inf

    def on_train_batch_end(self, batch, logs=None):
        """Takes note of a step."""
        self._last = time.monotonic()

    def on_test_batch_end(self, batch, logs=None):
        """Takes note of a step of validation."""
        self._last = time.monotonic()

    def _watch(self):
        while not self._is_over.wait(min(1.0, self._seconds / 10)):
            if time.monotonic() - self._last > self._seconds:
                logging.error(
                    "no step for %g seconds: %s, or --worker_timeout is too short; %s",
                    *(self._seconds, self._suspicion, self._remedy),
                )
                os._exit(1)
