"""Runs `bulk` on two Ray nodes of this machine beside `detect` with two workers: what Ray costs, and what it survives.

    python -m benchmarks.bulk_cluster --model=retinaface.tflite [--images=examples/photos] [--count=2000]
    python -m benchmarks.bulk_cluster --model=retinaface.tflite --kill

Both write Parquet, and the rows must be equal. With --kill, -9 takes a worker down after a fifth of the photos, a node
after two fifths and the driver after three, which then is started again; the seconds are of all of it. The nodes are
there before the clock starts, as in a cluster; of the driver's start and Ray's all counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from absl import app, flags

from benchmarks import bulk, process
from keras_retinaface import program
from keras_retinaface.bulk import plan, rows

_KILL = flags.DEFINE_bool("kill", False, "Take down a worker, a node and the driver.")
_MEMORY = 80 << 20  # of a node's objects, of which there are none
# A node that is gone shows in five seconds, by default in half a minute; one that is only busy may take its time.
_IMPATIENT = {"health_check_period_ms": 1000, "health_check_timeout_ms": 5000, "health_check_failure_threshold": 5}


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple]:
    """Starts a Ray cluster of two nodes with a core each; gives it and the second node."""
    from ray import cluster_utils

    head = {"num_cpus": 1, "object_store_memory": _MEMORY, "_system_config": _IMPATIENT}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=_MEMORY)
        cluster.wait_for_nodes()
        yield cluster, node
    finally:
        cluster.shutdown()


def kill_actor(node) -> None:
    """Kills the actor of a node with -9, and waits until the process beside it has ended by itself."""
    raylet, actors = node.all_processes["raylet"][0].process.pid, []
    while not actors:  # it may only just be starting
        actors = [pid for pid in process.tree(raylet) if "ray::Worker" in _command_line(pid)]
    beside = [pid for pid in process.tree(actors[0]) if "spawn_main" in _command_line(pid)]
    os.kill(actors[0], signal.SIGKILL)
    while any(map(_command_line, beside)):
        time.sleep(0.05)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def bulk_command(model: str, photos: pathlib.Path, folder: pathlib.Path, address: str) -> list[str]:
    """Returns the command that finds the faces in a folder of photos on a cluster."""
    flags_ = (f"--model={model}", f"--input={photos}", f"--output={folder}", f"--address={address}")
    return [sys.executable, "-m", "keras_retinaface.cli.bulk", *flags_]


def wait_for_parts(folder: pathlib.Path, count: int, driver: subprocess.Popen, seconds: float = 600) -> None:
    """Waits until so many parts are there.

    Raises:
        ValueError: if the driver ends before, or it takes too long.
    """
    end = time.monotonic() + seconds
    while len(rows.parts(folder)) < count:
        if driver.poll() is not None or time.monotonic() > end:
            raise ValueError(f"{len(rows.parts(folder))} of {count} parts; the driver's status is {driver.poll()}")
        time.sleep(0.02)


def kill_all(cluster, node, driver: subprocess.Popen, folder: pathlib.Path, marks: tuple[int, int, int]) -> list[int]:
    """Kills a worker, a node and the driver with -9; returns how many parts were there each time.

    Args:
        cluster: of two nodes.
        node: the second of them.
        driver: of a run that has begun.
        folder: of that run.
        marks: parts that must be there before each.
    """
    kills = (
        lambda: kill_actor(cluster.head_node),
        lambda: cluster.remove_node(node, allow_graceful=False),
        driver.kill,
    )
    seen = []
    for mark, kill in zip(marks, kills):
        wait_for_parts(folder, mark, driver)
        seen.append(len(rows.parts(folder)))
        kill()
    driver.wait()
    return seen


def read_rows(folder: pathlib.Path) -> list[dict]:
    """Returns the rows of all parts, by path."""
    import pyarrow as pa
    from pyarrow import parquet

    return pa.concat_tables([parquet.read_table(path) for path in rows.parts(folder)]).sort_by("path").to_pylist()


def _run_bulk(cluster, node, photos: pathlib.Path, folder: pathlib.Path) -> None:
    made = bulk_command(_model(), photos, folder, cluster.address)
    if _KILL.value:
        driver = subprocess.Popen(made, stderr=subprocess.DEVNULL)
        num_units = -(-flags.FLAGS.count // plan.unit_size(flags.FLAGS.count))
        seen = kill_all(cluster, node, driver, folder, tuple(num_units * fifth // 5 for fifth in (1, 2, 3)))
        print(f"killed with -9 after {', '.join(map(str, seen))} of {num_units} parts: worker, node, driver")
    subprocess.run(made, check=True, stderr=subprocess.DEVNULL)


def _model() -> str:
    return flags.FLAGS.model


def measure() -> None:
    """Prints images a second of both, and whether their rows are equal."""
    count, seconds = flags.FLAGS.count, {}
    with tempfile.TemporaryDirectory() as name, two_nodes() as (cluster, node):
        folder = pathlib.Path(name)
        bulk.link_photos(folder / "photos", flags.FLAGS.images, count)
        start = time.perf_counter()
        single = bulk.command(_model(), folder / "photos", folder / "detect", "--workers=2", "--output_format=parquet")
        subprocess.run(single, check=True, stderr=subprocess.DEVNULL)
        seconds["detect"] = time.perf_counter() - start
        start = time.perf_counter()
        _run_bulk(cluster, node, folder / "photos", folder / "bulk")
        seconds["bulk"] = time.perf_counter() - start
        expected, found = read_rows(folder / "detect"), read_rows(folder / "bulk")
        indexed = [json.loads(line)["rows"] for line in (folder / "bulk" / rows.INDEX).read_text().splitlines()]
    print(f"{'':>8} {'seconds':>8} {'images/s':>9} {'ratio':>6}")
    for who, took in seconds.items():
        print(f"{who:>8} {took:>8.1f} {count / took:>9.2f} {took / seconds['detect']:>6.2f}")
    is_equal = expected == found and sum(indexed) == count
    print(f"{len(found)} rows, {'equal' if is_equal else 'NOT EQUAL'} to those of detect")
    if not is_equal:
        raise ValueError("the rows differ")


def main(argv):
    """Measures."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    measure()


if __name__ == "__main__":
    flags.FLAGS.set_default("count", 2000)
    program.run(main)
