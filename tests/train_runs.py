"""Runs of `train_main.py` as processes, on eight small drawn images, for the tests that stop them in every way."""

import csv
import os
import subprocess
import sys
import time

import numpy as np
import PIL.Image

from tests import conftest

NUM_IMAGES = 8
# Four steps an epoch.
FLAGS = (
    "--image_size=64,64",
    "--batch_size=2",
    "--learning_rate=0.001",
    "--use_frozen_norms=true",
    "--ema_decay=0.9",
)


def write_images(folder):
    """Draws 0.jpg to 7.jpg, each with a bright face or two, and label.txt."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    lines = []
    for index in range(NUM_IMAGES):
        image = rng.integers(0, 80, (96, 96, 3), dtype=np.uint8)
        lines.append(f"# {index}.jpg")
        for left in (8, 52)[: 1 + index % 2]:
            side = int(rng.integers(20, 36))
            image[10 : 10 + side, left : left + side] = 200
            points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * side + [left, 10]
            row = [left, 10, side, side, *np.concatenate([points, np.zeros((5, 1))], 1).ravel()]
            lines.append(" ".join(f"{value:g}" for value in row))
        PIL.Image.fromarray(image).save(folder / f"{index}.jpg", quality=95)
    (folder / "label.txt").write_text("\n".join(lines) + "\n")
    return folder


def arguments(folder, workdir, *more):
    """Returns the flags of a run."""
    return [
        f"--train_images={folder}",
        f"--train_annotations={folder / 'label.txt'}",
        f"--workdir={workdir}",
        *FLAGS,
        *more,
    ]


def start(folder, workdir, *more, log, environment=None):
    """Starts a run whose output goes to the file `log`."""
    with open(log, "w") as file:
        return subprocess.Popen(
            [sys.executable, "train_main.py", *arguments(folder, workdir, *more)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=conftest.ROOT,
            env={**os.environ, "CI": "1", **(environment or {})},
        )


def run(folder, workdir, *more, log, **options):
    """Runs to the end; returns the status and the output."""
    status = start(folder, workdir, *more, log=log, **options).wait(timeout=300)
    return status, log.read_text()


def wait_for(condition, process, log, seconds=200):
    """Waits until a condition holds while a process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.005)


def losses(workdir):
    """Returns the rows of the history as arrays by column, without empty cells."""
    with open(workdir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def steps(workdir):
    """Returns the steps of the checkpoints, oldest first."""
    return sorted(int(path.stem.split("_")[1]) for path in (workdir / "checkpoints").glob("step_*.npz"))
