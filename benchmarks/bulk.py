"""Images a second of `detect` by workers, its memory over thousands of photos, and the planning of ten million.

    python -m benchmarks.bulk --model=retinaface.tflite [--images=examples/photos] [--count=100] [--rounds=3]
    python -m benchmarks.bulk --model=retinaface.tflite --checkout=../earlier
    python -m benchmarks.bulk --model=retinaface.tflite --memory=5000
    python -m benchmarks.bulk --plan=10000000

Rounds alternate between one image at a time (`--workers=0`) and the workers of `--workers`, and `detect_main.py` of an
earlier version where `--checkout` names one, which all others are then beside; the ratio is of the medians of whole
commands, start included. Core hours are of the seconds that cores worked, which other programs on the machine change
less than they change images a second. Memory is of the command and its workers together. The plan is of made-up paths,
without images; its memory is the process's peak.
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
    """Prints what a run holds from `_WARM` images on, by tenths of all: medians, for photos under way come and go."""
    with tempfile.TemporaryDirectory() as name:
        folder, lines = pathlib.Path(name), pathlib.Path(name, "faces.jsonl")
        link_photos(folder / "photos", _IMAGES.value, count)
        looks: dict[int, list[float]] = {}
        running = subprocess.Popen(command(_MODEL.value, folder / "photos", lines), stderr=subprocess.DEVNULL)
        while running.poll() is None:
            time.sleep(0.2)
            num_done = lines.read_bytes().count(b"\n") if lines.exists() else 0
            if _WARM <= num_done < count - _WARM // 10:  # behind that workers end
                looks.setdefault(num_done * 10 // count, []).append(process.memory(running.pid))
    if running.returncode or not looks:
        raise ValueError(f"detect ended with status {running.returncode} after {len(looks)} of 10 tenths")
    held = {tenth: statistics.median(measured) for tenth, measured in looks.items()}
    first = next(iter(held.values()))
    print(f"{'from image':>10} {'MiB':>7} {'ratio':>6} {'looks':>6}")
    for tenth, mib in held.items():
        print(f"{max(_WARM, tenth * count // 10):>10} {mib:>7.0f} {mib / first:>6.2f} {len(looks[tenth]):>6}")


def _round(folder: pathlib.Path, who: str) -> tuple[float, float]:
    """Returns images a second, and the seconds of a core that one took."""
    lines = folder / f"{who}.jsonl"
    if who == _EARLIER:
        made = command(_MODEL.value, folder / "photos", lines)
        made[1:3] = ["detect_main.py"]
    else:
        made = command(_MODEL.value, folder / "photos", lines, f"--workers={who}")
    start, before = time.perf_counter(), _child_seconds()
    where = _CHECKOUT.value if who == _EARLIER else None
    subprocess.run(made, check=True, stderr=subprocess.DEVNULL, cwd=where)
    return _COUNT.value / (time.perf_counter() - start), (_child_seconds() - before) / _COUNT.value


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_workers() -> None:
    """Prints images a second by workers, and the core hours of ten million."""
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
    rates = {who: list(map(statistics.median, zip(*measured))) for who, measured in rates.items()}
    first, _ = next(iter(rates.values()))
    print(f"{'workers':>8} {'images/s':>9} {'ratio':>6} {'core ms/image':>14} {'core hours for ten million':>27}")
    for who, (rate, seconds) in rates.items():
        hours = _TEN_MILLION * seconds / 3600
        print(f"{who:>8} {rate:>9.2f} {rate / first:>6.2f} {1000 * seconds:>14.1f} {hours:>27.0f}")


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
