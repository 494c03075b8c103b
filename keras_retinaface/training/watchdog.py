"""Ends a training that waits for somebody who will not come."""

from __future__ import annotations

import os
import threading
import time

import keras
from absl import logging


class Watchdog(keras.callbacks.Callback):
    """Ends the process when training makes no step for too long, as when another worker is gone or never came.

    A thread, because the main one then waits inside TensorFlow and cannot be interrupted.

    Args:
        seconds: without a step, the start and validation included, until the process ends with status 1.
    """

    def __init__(self, seconds: float):
        super().__init__()
        self._seconds, self._last = seconds, time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def on_train_batch_end(self, batch, logs=None):
        """Takes note of a step."""
        self._last = time.monotonic()

    def on_test_batch_end(self, batch, logs=None):
        """Takes note of a step of validation."""
        self._last = time.monotonic()

    def _watch(self):
        while True:
            time.sleep(min(1.0, self._seconds / 10))
            if time.monotonic() - self._last > self._seconds:
                logging.error(
                    "no step for %g seconds: another worker is gone, or --worker_timeout is too short; start the same "
                    "command on all workers to go on from the last checkpoint",
                    self._seconds,
                )
                os._exit(1)
