"""Bulk on a real Ray, skipped where there is none; `RETINAFACE_TFLITE` names a model where TensorFlow is not there."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmarks import bulk, bulk_cluster
from tests import conftest, http_server

pytest.importorskip("ray", reason="needs Ray: pip install 'keras-retinaface[bulk]'")
pytestmark = pytest.mark.slow

_PHOTO = conftest.ROOT / "tests" / "testdata" / "cases" / "results_lost" / "a.png"
_NUM = 600


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


def _command(*flags):
    return [sys.executable, "-m", "keras_retinaface.cli.bulk", *map(str, flags)]


@pytest.mark.long
def test_a_worker_and_a_node_and_the_driver_die_and_each_image_is_there_once(tmp_path, model, photos):
    single, folder = bulk.command(model, photos, tmp_path / "single", "--output_format=parquet"), tmp_path / "rows"
    assert subprocess.run(single, cwd=conftest.ROOT).returncode == 1  # of the broken image
    with bulk_cluster.two_nodes() as (cluster, node):
        command = bulk_cluster.bulk_command(model, photos, folder, cluster.address)
        with open(tmp_path / "driver.log", "w") as log:
            driver = subprocess.Popen(command, cwd=conftest.ROOT, stderr=log)
        try:
            bulk_cluster.kill_all(cluster, node, driver, folder, (2, 8, 14))
        finally:
            driver.kill()
            driver.wait()
        assert 0 < len(bulk_cluster.read_rows(folder)) < _NUM
        again = subprocess.run(command, cwd=conftest.ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 1 and "going on behind " in again.stderr, again.stderr
    assert again.stderr.splitlines()[-1].split() == [str(_NUM - 1), "1", str(_NUM - 1)]
    assert bulk_cluster.read_rows(folder) == bulk_cluster.read_rows(tmp_path / "single")
    entries = [json.loads(line) for line in (folder / "_index.jsonl").read_text().splitlines()]
    assert sum(entry["rows"] for entry in entries) == _NUM
    changed = subprocess.run([*command, "--max_faces=3"], cwd=conftest.ROOT, capture_output=True, text=True)
    assert changed.returncode == 1 and "--max_faces was " in changed.stderr


@pytest.mark.long
def test_a_run_of_this_machine_alone_takes_lists_and_says_what_is_wrong(tmp_path, model):
    shutil.copy(_PHOTO, tmp_path / "a.png")
    (tmp_path / "empty.txt").write_text("\n")
    with http_server.serve(tmp_path) as address:
        named = [f"{tmp_path}/a.png", f"file://{tmp_path}/a.png", f"{tmp_path}/gone.png", f"{tmp_path}/a.png"]
        named += [f"{address}/{name}.png" for name in ("a", "gone", "fails")]
        (tmp_path / "list.txt").write_text("\n".join(named))
        run = subprocess.run(
            _command(f"--model={model}", f"--input={address}/list.txt", f"--output={tmp_path / 'rows'}"),
            cwd=conftest.ROOT,
            capture_output=True,
            text=True,
        )
    assert run.returncode == 1 and "1 images are given more than once" in run.stderr, run.stderr
    rows = {row["path"]: row for row in bulk_cluster.read_rows(tmp_path / "rows")}
    assert sorted(rows) == sorted(set(named))
    assert {path for path, row in rows.items() if row["error"] is None} == {*named[:2], named[4]}
    assert rows[named[0]]["faces"] == rows[named[1]]["faces"] == rows[named[4]]["faces"] != []
    assert rows[named[5]]["error"] == f"{named[5]}: no such file"
    assert rows[named[6]]["error"].startswith(f"{named[6]}: ClientResponseError: 500")
    empty = subprocess.run(
        _command(f"--model={model}", f"--input={tmp_path}/empty.txt", f"--output={tmp_path / 'none'}"),
        cwd=conftest.ROOT,
        capture_output=True,
        text=True,
    )
    assert empty.returncode == 1 and "no images there" in empty.stderr
    large = subprocess.run(
        _command(f"--model={model}", f"--input={tmp_path}/a.png", f"--output={tmp_path / 'big'}", "--num_threads=4096"),
        cwd=conftest.ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert large.returncode == 1 and "no machine of this Ray has the 4096 CPUs and 0 GPUs of an actor" in large.stderr
