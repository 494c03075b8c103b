"""Images a second of `detect` by workers, what many photos come to, and the planning of a run of ten million.

    python -m benchmarks.bulk --model=retinaface.tflite [--images=examples/photos] [--count=100] [--rounds=3]
    python -m benchmarks.bulk --plan=10000000

Rounds alternate between one image at a time (`--workers=0`) and the workers of `--workers`; the ratio is of the medians
of whole commands, start included. The plan is of made-up paths, without images; its memory is the process's peak.
"""

from __future__ import annotations

import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from keras_retinaface import program
from keras_retinaface.bulk import plan, source
from keras_retinaface.media import image_file

_MODEL = flags.DEFINE_string("model", "mobilenet025", "Preset or file.")
_IMAGES = flags.DEFINE_string("images", "examples/photos", "Photos, taken again and again.")
_COUNT = flags.DEFINE_integer("count", 100, "Photos of a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of each.", 1)
_WORKERS = flags.DEFINE_list("workers", ["0", "2"], "Numbers of workers; the first is what the others are beside.")
_PLAN = flags.DEFINE_integer("plan", None, "Plan so many made-up paths instead.", 1)
_SCRIPT = "from keras_retinaface import program; from keras_retinaface.cli import detect; program.run(detect.main)"
_TEN_MILLION = 10_000_000


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


def _round(folder: pathlib.Path, workers: str) -> float:
    lines = folder / f"{workers}.jsonl"
    flags_ = (f"--model={_MODEL.value}", f"--images={folder / 'photos'}", f"--json={lines}", f"--workers={workers}")
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _SCRIPT, *flags_], check=True, stderr=subprocess.DEVNULL)
    return _COUNT.value / (time.perf_counter() - start)


def measure_workers() -> None:
    """Prints images a second by workers, and the hours of ten million."""
    paths = [pathlib.Path(path).resolve() for path in image_file.find(_IMAGES.value)]
    rates = {workers: [] for workers in _WORKERS.value}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "photos").mkdir()
        for index in range(_COUNT.value):
            path = paths[index % len(paths)]
            (folder / "photos" / f"{index:06d}{path.suffix}").symlink_to(path)
        for _ in range(_ROUNDS.value):
            for workers, measured in rates.items():
                measured.append(_round(folder, workers))
        contents = {(folder / f"{workers}.jsonl").read_bytes() for workers in rates}
    if len(contents) > 1:
        print("the lines differ between numbers of workers", file=sys.stderr)
    first = statistics.median(rates[_WORKERS.value[0]])
    print(f"{'workers':>8} {'images/s':>9} {'ratio':>6} {'machine hours for ten million':>30}")
    for workers, measured in rates.items():
        rate = statistics.median(measured)
        print(f"{workers:>8} {rate:>9.2f} {rate / first:>6.2f} {_TEN_MILLION / rate / 3600:>30.0f}")


def main(argv):
    """Measures what the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    if _PLAN.value:
        measure_plan(_PLAN.value)
    else:
        measure_workers()


if __name__ == "__main__":
    program.run(main)
