import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import command_runs, conftest

_CASES = conftest.ROOT / "tests" / "testdata" / "cases" / "results_lost"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of forty photos, one of them broken."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(40):
        (folder / f"{index:02d}.png").symlink_to(_CASES / "a.png")
    (folder / "17.png").unlink()
    (folder / "17.png").write_bytes(b"not an image")
    return folder


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _detect(*runs):
    return command_runs.run_in_turn("keras_retinaface.cli.detect", *runs)


def test_workers_find_what_one_finds_and_a_killed_run_goes_on(tmp_path, light_model, photos):
    flags = (f"--model={light_model}", f"--images={photos}")
    paths = {name: tmp_path / f"{name}.jsonl" for name in ("one", "two", "killed", "first", "second")}
    killed = (*flags, f"--json={paths['killed']}", f"--crops={tmp_path / 'crops'}", "--workers=2")
    process = subprocess.Popen(
        [sys.executable, "detect_main.py", *killed], cwd=conftest.ROOT, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not paths["killed"].exists() or paths["killed"].read_bytes().count(b"\n") < 3:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = paths["killed"].read_bytes()
    results = _detect(
        (*flags, f"--json={paths['one']}", "--workers=0"),
        (*flags, f"--json={paths['two']}"),
        (*killed, "--score_threshold=0.7"),
        killed,
        (*flags, f"--json={paths['first']}", "--shard=1/2", "--workers=0"),
        (*flags, f"--json={paths['second']}", "--shard=2/2", "--workers=0"),
    )
    assert results[2][0] == 1 and "--score_threshold was 0.5 and is 0.7" in results[2][2]
    assert [status for status, _, _ in results[:2]] == [1, 1] and "17.png: not a readable image" in results[1][2]
    # Of the shards only one holds the broken image.
    assert sorted(status for status, _, _ in results[4:]) == [0, 1]
    assert paths["one"].read_bytes() == paths["two"].read_bytes() == paths["killed"].read_bytes()
    assert paths["killed"].read_bytes().startswith(there[: there.rfind(b"\n") + 1])
    assert results[3][2].splitlines()[-1].split()[:3] == ["39", "1", "39"]
    assert len(os.listdir(tmp_path / "crops")) == 39
    shards = [_lines(paths[name]) for name in ("first", "second")]
    names = [line["image"] for line in _lines(paths["one"])]
    assert sorted(line["image"] for lines in shards for line in lines) == names
    assert all(10 < len(lines) < 30 for lines in shards)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["crops", *(p.name for p in paths.values())])


def test_rows_go_into_parquet_once_an_image(tmp_path, light_model, photos):
    try:
        from pyarrow import parquet
    except ImportError as error:
        pytest.skip(f"no usable pyarrow: {error}")
    shutil.copy(_CASES / "a.png", tmp_path / "b.png")
    images = [f"--images={path}" for path in (photos / "00.png", photos / "17.png", photos / "00.png")]
    flags = (f"--model={light_model}", "--output_format=parquet", *images)
    results = _detect(
        (*flags, f"--json={tmp_path / 'rows'}"),
        (*flags, f"--json={tmp_path / 'rows'}"),
        (*flags, f"--json={tmp_path / 'rows'}", "--max_faces=1"),
        (*flags,),
        (*flags, f"--json={tmp_path / 'b.png'}"),
        (f"--model={light_model}", *images, f"--json={tmp_path / 'lines.jsonl'}"),
    )
    assert [status for status, _, _ in results] == [1] * 6
    assert "1 paths are given more than once, as " in results[0][2]
    (part,) = (tmp_path / "rows").glob("*.parquet")
    table = parquet.read_table(part)
    assert table["path"].to_pylist() == [str(photos / "00.png"), str(photos / "17.png")]
    assert "17.png: not a readable image" in table["error"].to_pylist()[1]
    assert results[1][2].splitlines()[-1].split()[:3] == ["1", "1", "1"]
    assert "--max_faces was " in results[2][2] and " and is 1" in results[2][2]
    assert "--output_format=parquet needs --json, a folder for its files" in results[3][2]
    assert "b.png cannot be written: Not a directory" in results[4][2]
    lines = _lines(tmp_path / "lines.jsonl")
    assert len(lines) == 3 and lines[0] == lines[2]
    expected = lines[0]["faces"][0]
    assert table["faces"].to_pylist()[0][0]["score"] == pytest.approx(expected["score"])
    assert table["faces"].to_pylist()[0][0]["box"] == pytest.approx(expected["box"])
