"""The main job on real photos, end to end: detect, fine-tune a little, export, detect with the export.

    ./run demo

Writes to runs/demo, which git ignores.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import time

import tqdm
from absl import app

from keras_retinaface import program

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "runs" / "demo"
PHOTOS = ROOT / "examples" / "photos"

STAGES = (
    (
        "detect with the shipped weights",
        ["detect_main.py", f"--images={PHOTOS}", f"--output={OUTPUT / 'keras'}", f"--json={OUTPUT / 'keras.jsonl'}"],
    ),
    (
        "fine-tune on the photos",
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


def count_faces(path: pathlib.Path) -> int:
    """Counts the faces in a file that `detect_main.py --json` wrote."""
    return sum(len(json.loads(line)["faces"]) for line in path.read_text(encoding="utf-8").splitlines())


def main(argv):
    """Runs the stages, each a command that a user would type, and prints what came out."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    # A training that is done would be left as it is.
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    rows = []
    progress = tqdm.tqdm(STAGES, unit="stage", disable=None)
    for title, command in progress:
        progress.set_description(title)
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if result.returncode:
            print(f"{result.stdout}\n{title}: `python {' '.join(command)}` failed", file=sys.stderr)
            return 1
        rows.append((title, time.perf_counter() - start))
    print(f"\n{'stage':34}{'seconds':>8}")
    for title, seconds in rows:
        print(f"{title:34}{seconds:>8.0f}")
    print(f"\nfaces found on {len(list((OUTPUT / 'keras').iterdir()))} photos:")
    print(f"  shipped weights, Keras      {count_faces(OUTPUT / 'keras.jsonl')}")
    print(f"  fine-tuned, TFLite at VGA   {count_faces(OUTPUT / 'tflite.jsonl')}")
    print(f"\nlook at the pictures in {OUTPUT.relative_to(ROOT) / 'keras'} and {OUTPUT.relative_to(ROOT) / 'tflite'}")
    return 0


if __name__ == "__main__":
    program.run(main)
