"""The main job on real photos, end to end: detect, fine-tune a little, export, detect with the export.

    ./run demo

Prints the commands, and how many of the labelled faces each model found and missed. Writes to runs/demo, which git
ignores; the training there is kept for the next time.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import tqdm
from absl import app

from keras_retinaface import program
from keras_retinaface.geometry import overlap

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "runs" / "demo"
PHOTOS = ROOT / "examples" / "photos"

FINE_TUNE = "fine-tune on the photos"
STAGES = (
    (
        "detect with the shipped weights",
        [
            "detect_main.py",
            f"--images={PHOTOS}",
            f"--output={OUTPUT / 'shipped'}",
            f"--json={OUTPUT / 'shipped.jsonl'}",
        ],
    ),
    (
        FINE_TUNE,
        ["train_main.py", "--flagfile=configs/quickstart.flags", f"--workdir={OUTPUT / 'train'}"],
    ),
    ("export to TFLite", ["export_main.py", f"--model={OUTPUT / 'train'}", f"--output={OUTPUT}", "--tflite"]),
    (
        "detect with the .tflite",
        [
            "detect_main.py",
            f"--model={OUTPUT / 'retinaface.tflite'}",
            f"--images={PHOTOS}",
            f"--output={OUTPUT / 'tflite'}",
            f"--json={OUTPUT / 'tflite.jsonl'}",
        ],
    ),
)


# Overlap from which on a box is that of a labelled face.
SAME_IOU = 0.5
# What a training hangs on; it is done again when one of these changes.
TRAINED_FROM = ("configs/quickstart.flags", "examples/photos/label.txt", "keras_retinaface/assets/mobilenet025.npz")


def read_labels() -> dict[str, list]:
    """Returns the boxes (x1, y1, x2, y2) of the labelled faces of each photo."""
    labels: dict[str, list] = {}
    for line in (PHOTOS / "label.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            boxes = labels.setdefault(line[1:].strip(), [])
        else:
            x, y, width, height = map(float, line.split()[:4])
            boxes.append((x, y, x + width, y + height))
    return labels


def count(path: pathlib.Path, labels: dict[str, list]) -> tuple[int, int, int]:
    """Returns how many labelled faces a file of `--json` has found and missed, and how many boxes are no such face."""
    found = missed = false = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        expected = np.array(labels[pathlib.Path(told["image"]).name]).reshape(-1, 4)
        boxes = np.array([face["box"] for face in told["faces"]]).reshape(-1, 4)
        free = set(range(len(expected)))
        for overlaps in overlap.iou(boxes, expected):  # best first, so that a second box on a face is the false one
            best = max(free, key=overlaps.__getitem__, default=None)
            if best is not None and overlaps[best] >= SAME_IOU:
                free.remove(best)
                found += 1
            else:
                false += 1
        missed += len(free)
    return found, missed, false


def _stamp() -> str:
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in TRAINED_FROM)).hexdigest()


def _prepare() -> bool:
    """Empties the folder but for a training that would come out the same; returns whether there is one."""
    stamp = OUTPUT / "train" / "demo.stamp"
    is_trained = stamp.is_file() and stamp.read_text() == _stamp()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for path in OUTPUT.iterdir():
        if path.name == "train" and is_trained:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return is_trained


def main(argv):
    """Runs the stages, each a command that a user would type, and prints what came out."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    is_trained, rows = _prepare(), []
    progress = tqdm.tqdm(STAGES, unit="stage", disable=None)
    for title, command in progress:
        progress.set_description(title)
        if title == FINE_TUNE and is_trained:
            rows.append((title, "kept", command))
            continue
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if result.returncode:
            print(f"{result.stdout}\n{title}: `python {' '.join(command)}` failed", file=sys.stderr)
            return 1
        rows.append((title, f"{time.perf_counter() - start:.0f}", command))
        if title == FINE_TUNE:
            (OUTPUT / "train" / "demo.stamp").write_text(_stamp())
    print(f"\n{'seconds':>8}  stage and command")
    for title, seconds, command in rows:
        said = " ".join(command).replace(f"{ROOT}/", "")
        print(f"{seconds:>8}  {title}\n{'':10}./run python {said}")
    labels = read_labels()
    num_faces = sum(map(len, labels.values()))
    print(f"\n{f'of {num_faces} labelled faces':32}{'found':>8}{'missed':>8}{'false':>8}")
    for name, file in (("shipped weights", "shipped"), ("fine-tuned, TFLite at 480 x 640", "tflite")):
        print(f"{name:32}" + "".join(f"{number:>8}" for number in count(OUTPUT / f"{file}.jsonl", labels)))
    print("false: boxes over a score of 0.5 that are no labelled face")
    print(f"\nlook at the pictures in {OUTPUT.relative_to(ROOT) / 'shipped'} and {OUTPUT.relative_to(ROOT) / 'tflite'}")
    return 0


if __name__ == "__main__":
    program.run(main)
