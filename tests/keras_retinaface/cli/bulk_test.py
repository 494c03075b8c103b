"""Bulk on a real Ray, skipped where there is none; `RETINAFACE_TFLITE` names a model where TensorFlow is not there."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import conftest

pytest.importorskip("ray", reason="needs Ray: pip install 'keras-retinaface[bulk]'")
pytestmark = pytest.mark.slow

_PHOTO = conftest.ROOT / "tests" / "testdata" / "cases" / "results_lost" / "a.png"
_NUM = 120


@pytest.fixture(scope="module")
def model(request):
    return os.environ.get("RETINAFACE_TFLITE") or request.getfixturevalue("light_model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    for index in range(_NUM):
        (folder / f"{index:03d}.png").symlink_to(_PHOTO)
    (folder / "100.png").unlink()
    (folder / "100.png").write_bytes(b"no image")
    return folder


def _command(name, *flags):
    return [sys.executable, "-m", f"keras_retinaface.cli.{name}", *map(str, flags)]


def _detect_command(model, photos, folder):
    script = "from absl import app; from keras_retinaface.cli import detect; app.run(detect.main)"
    flags = (f"--model={model}", f"--images={photos}", f"--json={folder}", "--output_format=parquet")
    return [sys.executable, "-c", script, *flags]


def _rows(folder):
    import pyarrow as pa
    from pyarrow import parquet

    parts = sorted(pathlib.Path(folder).glob("*.parquet"))
    parts = [part for part in parts if not part.name.startswith("_")]
    return pa.concat_tables([parquet.read_table(part) for part in parts]).sort_by("path").to_pylist()


def _wait_for_parts(folder, count, process):
    end = time.monotonic() + 180
    while len(list(folder.glob("part-*.parquet"))) < count:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_and_a_node_and_the_driver_die_and_each_image_is_there_once(tmp_path, model, photos):
    import psutil
    from ray.cluster_utils import Cluster

    single = subprocess.run(_detect_command(model, photos, tmp_path / "single"), cwd=conftest.ROOT)
    assert single.returncode == 1  # of the broken image
    driver, cluster = None, Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        flags = (f"--model={model}", f"--input={photos}", f"--output={tmp_path / 'rows'}")
        command = _command("bulk", *flags, f"--address={cluster.address}")
        with open(tmp_path / "driver.log", "w") as log:
            driver = subprocess.Popen(command, cwd=conftest.ROOT, stderr=log)
        _wait_for_parts(tmp_path / "rows", 2, driver)
        raylets = [one.all_processes["raylet"][0].process.pid for one in (cluster.head_node, node)]
        children = [child for raylet in raylets for child in psutil.Process(raylet).children(recursive=True)]
        actors = [child for child in children if "MapWorker" in "".join(child.cmdline())]
        assert actors, [child.cmdline() for child in children]
        actors[0].kill()
        _wait_for_parts(tmp_path / "rows", 5, driver)
        cluster.remove_node(node, allow_graceful=False)
        _wait_for_parts(tmp_path / "rows", 8, driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert len(_rows(tmp_path / "rows")) < _NUM
        again = subprocess.run(command, cwd=conftest.ROOT, capture_output=True, text=True, timeout=240)
    finally:
        if driver is not None and driver.poll() is None:
            driver.kill()
            driver.wait()
        cluster.shutdown()
    assert again.returncode == 1 and "going on behind " in again.stderr, again.stderr
    assert again.stderr.splitlines()[-1].split() == [str(_NUM - 1), "1", str(_NUM - 1)]
    assert _rows(tmp_path / "rows") == _rows(tmp_path / "single")
    entries = [json.loads(line) for line in (tmp_path / "rows" / "_index.jsonl").read_text().splitlines()]
    assert sum(entry["rows"] for entry in entries) == _NUM
    changed = subprocess.run([*command, "--max_faces=3"], cwd=conftest.ROOT, capture_output=True, text=True)
    assert changed.returncode == 1 and "--max_faces was " in changed.stderr


def test_a_run_of_this_machine_alone_takes_lists_and_says_what_is_wrong(tmp_path, model):
    shutil.copy(_PHOTO, tmp_path / "a.png")
    (tmp_path / "list.txt").write_text(
        f"{tmp_path}/a.png\nfile://{tmp_path}/a.png\n{tmp_path}/gone.png\n{tmp_path}/a.png\n"
    )
    (tmp_path / "empty.txt").write_text("\n")
    run = subprocess.run(
        _command("bulk", f"--model={model}", f"--input={tmp_path}/list.txt", f"--output={tmp_path / 'rows'}"),
        cwd=conftest.ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and "1 images are given more than once" in run.stderr, run.stderr
    assert [(row["path"].rpartition("/")[2], row["error"] is None) for row in _rows(tmp_path / "rows")] == [
        ("a.png", True),
        ("gone.png", False),
        ("a.png", True),
    ]
    empty = subprocess.run(
        _command("bulk", f"--model={model}", f"--input={tmp_path}/empty.txt", f"--output={tmp_path / 'none'}"),
        cwd=conftest.ROOT,
        capture_output=True,
        text=True,
    )
    assert empty.returncode == 1 and "no images there" in empty.stderr
