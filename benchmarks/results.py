r"""Measures shipped presets under the test-time options and writes docs/results.md; every number there comes from here.

    python -m benchmarks.results --images=../shared/data/wider_face/val/images \
        --ground_truth=../shared/data/wider_face/ground_truth

Each row is one run of evaluate_main.py in a process of its own, whose numbers are kept in --store: an interrupted
measurement goes on, and without --images the page is written again from what is there.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import subprocess
import sys

from absl import app, flags, logging

from keras_retinaface import program

ROOT = pathlib.Path(__file__).parents[1]

_IMAGES = flags.DEFINE_string("images", None, "Folder of WIDER FACE validation images, or of a part of them.")
_GROUND_TRUTH = flags.DEFINE_string("ground_truth", None, "Folder of the official ground truth.")
_MODELS = flags.DEFINE_list("models", ["mobilenet025"], "Presets, or anything else that evaluate_main.py takes.")
_OPTIONS = flags.DEFINE_list("options", [], "Names of the options to measure; all when empty.")
_STORE = flags.DEFINE_string("store", str(ROOT / "runs" / "results"), "Folder for one JSON file per row.")
_OUTPUT = flags.DEFINE_string("output", str(ROOT / "docs" / "results.md"), "The page.")

PAPER_SCALES = "--scales=500,800,1100,1400,1700"
# Name -> flags of evaluate_main.py.
OPTIONS = {
    "original": [],
    "original, voting": ["--voting_iou=0.5"],
    "long side 640": ["--image_size=640"],
    "1100 x 1650": ["--image_size=1100,1650"],
    "faces from 16 px": ["--min_face=16"],
    "flip": ["--flip", "--voting"],
    "tiles of 640": ["--tile=640"],
    "five scales": [PAPER_SCALES],
    "five scales, voting": [PAPER_SCALES, "--voting"],
    "five scales, flip, voting": [PAPER_SCALES, "--flip", "--voting"],
}

# Published AP of others on the whole WIDER FACE validation set (easy, medium, hard, mAP where given), with settings.
PEERS = [
    ("RetinaFace ResNet-152, all losses (the paper)", "five scales, flip, voting", "96.94", "96.18", "91.86", "52.32"),
    ("insightface RetinaFace ResNet-50", "multi-scale", "96.5", "95.6", "90.4", ""),
    ("insightface RetinaFace ResNet-50", "VGA", "94.9", "91.9", "64.2", ""),
    ("biubug6/Pytorch_Retinaface ResNet-50", "original size", "95.5", "94.0", "84.4", ""),
    ("biubug6/Pytorch_Retinaface MobileNet-0.25", "original size", "90.70", "88.16", "73.82", ""),
    ("peteryuX/retinaface-tf2 ResNet-50", "not stated", "94.2", "93.3", "83.6", ""),
    ("SCRFD-0.5GF", "VGA", "90.6", "88.1", "68.5", ""),
    ("YuNet, 76 k parameters", "original size", "89.2", "88.3", "81.1", ""),
    ("TinaFace", "1100 x 1650", "96.3", "95.7", "93.0", ""),
]

HEADER = """# Results

Written by `python -m benchmarks.results`; not edited by hand.

## Shipped presets

{scope}

AP by the official protocol at IoU 0.5; mAP is COCO's over IoU .5:.05:.95 on the hard subset, the faces outside
it ignored, at most 1,000 detections an image.

Each row is `python evaluate_main.py --model=MODEL --images=... --ground_truth=... --partial` with the options that it
names. Seconds an image: detection only, mean, {machine}{busy}.
Memory: the largest resident set of the whole process, TensorFlow and the evaluation included.

| model | test-time options | flags | easy | medium | hard | mAP | s/image | memory, MB |
|---|---|---|---|---|---|---|---|---|
"""

PEERS_HEADER = """
## Published numbers of others

As their authors give them, on the whole validation set; the settings differ, so a row compares with a row above only
where size and scales agree.

| model | setting | easy | medium | hard | mAP |
|---|---|---|---|---|---|
"""


def measure(model: str, name: str, store: pathlib.Path) -> None:
    """Runs one row, unless it is there already."""
    path = store / f"{pathlib.Path(model).name}, {name}.json"
    if path.is_file():
        return
    logging.info("measuring %s, %s", model, name)
    # A row measured just before counts for one process a core at most.
    is_busy = os.getloadavg()[0] > 1.25 * os.cpu_count()
    numbers = path.with_suffix(".part")
    command = [sys.executable, str(ROOT / "evaluate_main.py"), f"--model={model}", f"--images={_IMAGES.value}"]
    command += [f"--ground_truth={_GROUND_TRUTH.value}", "--partial", f"--json={numbers}", *OPTIONS[name]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from subprocess
    if process.returncode:
        raise SystemExit(f"{model}, {name}: evaluate_main.py ended with status {process.returncode}")
    row = {**json.loads(numbers.read_text()), "memory_mb": usage.ru_maxrss / 1024, "machine": _machine()}
    row["is_busy"] = is_busy
    path.write_text(json.dumps({"model": model, "options": name, **row}, indent=2) + "\n")
    numbers.unlink()


def render(rows: list[dict]) -> str:
    """Returns the page for measured rows, in the order of `OPTIONS`."""
    rows = sorted(rows, key=lambda row: (row["model"], list(OPTIONS).index(row["options"])))
    images, faces = rows[0]["images"], rows[0]["faces"]
    if images == 3226:
        scope = "The whole WIDER FACE validation set."
    else:
        scope = (
            f"**{images} of the 3,226 images of the WIDER FACE validation set** ({faces:,} faces), with the "
            "ground truth cut to them: rows compare with each other, not with numbers for the whole set."
        )
    busy = "; in brackets where other work ran beside it" if any(row.get("is_busy") for row in rows) else ""
    text = HEADER.format(scope=scope, machine=rows[0]["machine"], busy=busy)
    for row in rows:
        ap = " | ".join(f"{100 * row[key]:.2f}" for key in ("easy", "medium", "hard", "map"))
        flag_text = f"`{' '.join(OPTIONS[row['options']])}`" if OPTIONS[row["options"]] else ""
        text += f"| {row['model']} | {row['options']} | {flag_text} | {ap} "
        seconds = f"{row['seconds_per_image']:.3f}"
        text += f"| {f'({seconds})' if row.get('is_busy') else seconds} | {row['memory_mb']:.0f} |\n"
    return text + PEERS_HEADER + "".join(f"| {' | '.join(peer)} |\n" for peer in PEERS)


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"


def main(argv):
    """Measures what is missing and writes the page."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    unknown = sorted(set(_OPTIONS.value) - set(OPTIONS))
    if unknown:
        raise app.UsageError(f"--options: no {unknown}; there are {list(OPTIONS)}")
    store = pathlib.Path(_STORE.value)
    if _IMAGES.value:
        store.mkdir(parents=True, exist_ok=True)
        for model in _MODELS.value:
            for name in _OPTIONS.value or OPTIONS:
                measure(model, name, store)
    rows = [json.loads(path.read_text()) for path in sorted(store.glob("*.json"))]
    if not rows:
        raise app.UsageError(f"{store} holds no measurements; give --images and --ground_truth")
    output = pathlib.Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    program.run(main)
