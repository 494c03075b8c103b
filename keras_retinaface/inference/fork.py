"""Refuses TensorFlow in a child forked after TensorFlow had started: threads that it waits for are not there."""

from __future__ import annotations

import os
import sys

_is_lost = False


def check() -> None:
    """Raises where TensorFlow would wait for ever.

    Raises:
        RuntimeError: in such a child.
    """
    if _is_lost:
        raise RuntimeError(
            "TensorFlow ran in the parent before this process was forked, and would hang here. Start processes by "
            '`multiprocessing.get_context("spawn")` (or "forkserver"), or build the first `Detector` in the children; '
            f"a .tflite file runs in forked children. Received: process {os.getpid()}, forked from {os.getppid()}"
        )


def _note() -> None:
    global _is_lost
    context = sys.modules.get("tensorflow.python.eager.context")
    started = context.context_safe() if context else None
    _is_lost = _is_lost or bool(getattr(started, "_initialized", False))


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_note)
