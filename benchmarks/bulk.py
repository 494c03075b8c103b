"""Images a second of `detect` by workers, its memory over thousands of photos, and the planning of ten million.

    python -m benchmarks.bulk --model=retinaface.tflite [--images=examples/photos] [--count=100] [--rounds=3]
    python -m benchmarks.bulk --model=retinaface.tflite --checkout=../earlier
    python -m benchmarks.bulk --model=retinaface.tflite --memory=5000
    python -m benchmarks.bulk --plan=10000000

Rounds alternate between one image at a time (`--workers=0`) and the workers of `--workers`, and `detect_main.py` of an
earlier version where `--checkout` names one, which all others are then beside; the ratio is of the medians of whole
commands, start included. Memory is of the command and its workers together. The plan is of made-up paths, without
images; its memory is the process's peak.
"""

from __future__ import annotations

import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from benchmarks import process
from keras_retinaface import program
from keras_retinaface.bulk import plan, source
from keras_retinaface.media import image_file

_MODEL = flags.DEFINE_string("model", "mobilenet025", "Preset or file.")
_IMAGES = flags.DEFINE_string("images", "examples/photos", "Photos, taken again and again.")
_COUNT = flags.DEFINE_integer("count", 100, "Photos of a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of each.", 1)
_WORKERS = flags.DEFINE_list("workers", ["0", "2"], "Numbers of workers; the first is what the others are beside.")
_CHECKOUT = flags.DEFINE_string("checkout", None, "Folder of an earlier version, which is measured too.")
_MEMORY = flags.DEFINE_integer("memory", None, "Take so many photos, by default workers, and look at memory.", 1000)
_PLAN = flags.DEFINE_integer("plan", None, "Plan so many made-up paths instead.", 1)
_SCRIPT = "from keras_retinaface import program; from keras_retinaface.cli import detect; program.run(detect.main)"
_TEN_MILLION = 10_000_000
_EARLIER = "earlier"
# Images after which a run is warm, and what its memory is compared with.
_WARM = 200


def measure_plan(count: int) -> None:
    """Prints seconds and memory of the driver's plan and of reading it back as a worker does."""
    entries = (source.Entry(f"/archive/{index // 1000:06d}/photo_{index:09d}.jpg") for index in range(count))
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.perf_counter(), time.process_time()
        num_images, _ = plan.write(pathlib.Path(folder), entries)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        planned = plan.Plan(folder)
        units = plan.missing(pathlib.Path(folder), planned.num_units)
        last = planned.read(units[-1])[-1].path
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'images':>10} {'units':>6} {'seconds':>8} {'cpu s':>7} {'peak MiB':>9}  last")
    print(f"{num_images:>10} {len(units):>6} {seconds:>8.1f} {cpu:>7.1f} {peak:>9.0f}  {last}")


def link_photos(folder: pathlib.Path, pattern: str, count: int) -> None:
    """Makes a folder of links to photos, again and again."""
    folder.mkdir()
    paths = [pathlib.Path(path).resolve() for path in image_file.find(pattern)]
    for index in range(count):
        path = paths[index % len(paths)]
        (folder / f"{index:06d}{path.suffix}").symlink_to(path)


def command(model: str, photos: pathlib.Path, results: pathlib.Path, *more: str) -> list[str]:
    """Returns the command that finds the faces in a folder of photos."""
    model = os.path.abspath(model) if os.path.exists(model) else model  # an earlier version runs elsewhere
    return [sys.executable, "-c", _SCRIPT, f"--model={model}", f"--images={photos}", f"--json={results}", *more]


def measure_memory(count: int) -> None:
    """Prints what a run holds after `_WARM` images and after each tenth of all."""
    with tempfile.TemporaryDirectory() as name:
        folder, lines = pathlib.Path(name), pathlib.Path(name, "faces.jsonl")
        link_photos(folder / "photos", _IMAGES.value, count)
        marks, found = [_WARM, *(count * tenth // 10 for tenth in range(1, 11))], {}
        running = subprocess.Popen(command(_MODEL.value, folder / "photos", lines), stderr=subprocess.DEVNULL)
        while running.poll() is None and len(found) < len(marks):
            time.sleep(0.2)
            num_done = lines.read_bytes().count(b"\n") if lines.exists() else 0
            # The last lines come when the workers end.
            due = [mark for mark in marks if mark not in found and num_done >= min(mark, count - _WARM // 10)]
            held = process.memory(running.pid) if due else 0
            found |= dict.fromkeys(due, held)
        running.wait()
    if running.returncode or len(found) < len(marks):
        raise ValueError(f"detect ended with status {running.returncode} behind {len(found)} of {len(marks)} looks")
    print(f"{'images':>8} {'MiB':>7} {'ratio':>6}")
    for mark, held in found.items():
        print(f"{mark:>8} {held:>7.0f} {held / found[_WARM]:>6.2f}")


def _round(folder: pathlib.Path, who: str) -> float:
    lines = folder / f"{who}.jsonl"
    if who == _EARLIER:
        made = command(_MODEL.value, folder / "photos", lines)
        made[1:3] = ["detect_main.py"]
    else:
        made = command(_MODEL.value, folder / "photos", lines, f"--workers={who}")
    start = time.perf_counter()
    where = _CHECKOUT.value if who == _EARLIER else None
    subprocess.run(made, check=True, stderr=subprocess.DEVNULL, cwd=where)
    return _COUNT.value / (time.perf_counter() - start)


def measure_workers() -> None:
    """Prints images a second by workers, and the hours of ten million."""
    rates = {who: [] for who in ([_EARLIER] if _CHECKOUT.value else []) + _WORKERS.value}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        link_photos(folder / "photos", _IMAGES.value, _COUNT.value)
        for _ in range(_ROUNDS.value):
            for who, measured in rates.items():
                measured.append(_round(folder, who))
        contents = {(folder / f"{workers}.jsonl").read_bytes() for workers in _WORKERS.value}
    if len(contents) > 1:
        print("the lines differ between numbers of workers", file=sys.stderr)
    first = statistics.median(next(iter(rates.values())))
    print(f"{'workers':>8} {'images/s':>9} {'ratio':>6} {'machine hours for ten million':>30}")
    for who, measured in rates.items():
        rate = statistics.median(measured)
        print(f"{who:>8} {rate:>9.2f} {rate / first:>6.2f} {_TEN_MILLION / rate / 3600:>30.0f}")


def main(argv):
    """Measures what the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    if _PLAN.value:
        measure_plan(_PLAN.value)
    elif _MEMORY.value:
        measure_memory(_MEMORY.value)
    else:
        measure_workers()


if __name__ == "__main__":
    program.run(main)
