"""The folder of a run: what lies in it, made ready to begin or to go on."""

from __future__ import annotations

import os
import pathlib

from absl import logging

from keras_retinaface.training import checkpoint

# What a run writes into its workdir.
CHECKPOINTS, HISTORY, LOGS, MODEL = "checkpoints", "history.csv", "logs", "model.keras"
CONFIG, BEST = "config.json", "best.keras"
_WRITTEN = (CHECKPOINTS, HISTORY, LOGS, CONFIG, "run.flags", MODEL, BEST)


def prepare(workdir: str | os.PathLike, *, resume: bool, is_chief: bool = True) -> checkpoint.Checkpoint | None:
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
    numbers = [int(path.name[8:]) for path in workdir.glob("earlier_*") if path.name[8:].isdecimal()]
    aside = workdir / f"earlier_{1 + max(numbers, default=0):03d}"
    aside.mkdir()
    for path in found:
        os.replace(path, aside / path.name)
    (workdir / CHECKPOINTS).mkdir()
    logging.info("moved what an earlier run has written to %s", aside)
