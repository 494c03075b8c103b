"""Trainings that are killed, starved of disk, fed broken data and started again."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import conftest, train_runs

pytestmark = pytest.mark.slow

_EPOCHS = "--epochs=3"  # twelve steps
_SAVE = "--save_every=3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train_runs.write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The workdir of a run that nothing stopped."""
    path = tmp_path_factory.mktemp("whole")
    status, output = train_runs.run(folder, path / "run", _EPOCHS, _SAVE, log=path / "log")
    assert status == 0, output
    return path / "run"


def _assert_same(workdir, whole):
    """Compares the curve of the losses and the last checkpoint of two runs."""
    curve, expected = train_runs.losses(workdir), train_runs.losses(whole)
    assert curve.keys() == expected.keys() and len(curve["loss"]) == 3
    for name, values in expected.items():
        np.testing.assert_allclose(curve[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    name = f"checkpoints/step_{12:08d}.npz"
    with np.load(workdir / name) as values, np.load(whole / name) as others:
        assert set(values.files) == set(others.files)
        for key in set(values.files) - {"settings"}:
            np.testing.assert_allclose(values[key], others[key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_killed_three_times_ends_as_if_nothing_had_been(folder, whole, tmp_path):
    workdir, log = tmp_path / "run", tmp_path / "log"
    # In the middle of the first epoch, then at the end of it, where the history's row is just written.
    for step in (3, 4):
        process = train_runs.start(folder, workdir, _EPOCHS, _SAVE, log=log)
        train_runs.wait_for(lambda: step in train_runs.steps(workdir), process, log)  # noqa: B023
        process.kill()
        process.wait()
        assert train_runs.steps(workdir)[-1] < 12, "killed too late to show anything"
    assert "going on from" in log.read_text()
    # A kill in the middle of writing could at worst leave this; whoever copies checkpoints may also cut one off.
    newest = workdir / f"checkpoints/step_{train_runs.steps(workdir)[-1]:08d}.npz"
    os.truncate(newest, newest.stat().st_size // 2)
    status, output = train_runs.run(folder, workdir, _EPOCHS, _SAVE, log=log)
    assert status == 0, output
    assert f"{newest.name}: not a readable .npz file" in output and "falling back to the checkpoint before" in output
    _assert_same(workdir, whole)


def _run_in_turn(*runs):
    """Runs `train_main` with several sets of flags in one process; returns each status and its errors."""
    code = (
        "import io, json, logging, sys\n"
        "import train_main\n"
        "from absl import flags\n"
        "from absl.testing import flagsaver\n"
        "import absl.logging\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    stream = io.StringIO()\n"
        "    handler = logging.StreamHandler(stream)\n"
        "    handler.setLevel(logging.WARNING)\n"
        "    absl.logging.get_absl_logger().addHandler(handler)\n"
        "    with flagsaver.flagsaver():\n"
        "        flags.FLAGS(['train_main.py', *arguments])\n"
        "        status = train_main.main(['train_main.py'])\n"
        "    absl.logging.get_absl_logger().removeHandler(handler)\n"
        "    print('RESULT', json.dumps([status, stream.getvalue()]), flush=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(runs)], capture_output=True, text=True, cwd=conftest.ROOT, timeout=300
    )
    lines = [line[7:] for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(lines) == len(runs), result.stderr
    return [json.loads(line) for line in lines]


def test_faults_are_one_line_and_lose_nothing(folder, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = {path: path.read_bytes() for path in sorted(workdir.rglob("*")) if path.is_file()}
    (tmp_path / "file").write_text("")
    broken = train_runs.write_images(tmp_path / "broken")
    label = broken / "label.txt"
    # A point so far away that its offset is no longer a number; the reader cannot know how large images are.
    rows = label.read_text().splitlines()
    row = rows.index("# 5.jpg") + 1
    numbers = rows[row].split()
    rows[row] = " ".join(numbers[:4] + ["3e38", *numbers[5:]])
    label.write_text("\n".join(rows) + "\n")

    changed, unwritable, finished, poisoned, anew = _run_in_turn(
        train_runs.arguments(folder, workdir, _EPOCHS, _SAVE, "--learning_rate=0.002", "--mixed_precision"),
        train_runs.arguments(folder, tmp_path / "file" / "run"),
        train_runs.arguments(folder, workdir, _EPOCHS, "--save_every=1"),
        train_runs.arguments(broken, tmp_path / "poisoned", "--save_every=1"),
        train_runs.arguments(folder, workdir, "--epochs=1", "--steps_per_epoch=1", "--resume=false"),
    )
    assert changed[0] == 1 and changed[1].count("\n") == 1
    assert "(--learning_rate=0.001 then, 0.002 now, --mixed_precision=False then, True now)" in changed[1]
    assert unwritable[0] == 1 and unwritable[1].count("\n") == 1
    assert f"`workdir` cannot be written: Not a directory: {tmp_path / 'file' / 'run'}" in unwritable[1]
    assert finished == [0, ""]
    aside = workdir / "earlier_001"
    assert anew[0] == 0 and train_runs.steps(workdir) == [1]
    assert {aside / path.relative_to(workdir): content for path, content in before.items()} == {
        path: path.read_bytes() for path in sorted(aside.rglob("*")) if path.is_file()
    }

    assert poisoned[0] == 1 and poisoned[1].count("\n") == 1
    assert "landmark_loss, loss is not finite" in poisoned[1] or "loss, landmark_loss is not finite" in poisoned[1]
    step = int(poisoned[1].split("step ")[1].split(":")[0])
    assert poisoned[1].endswith("its images: 5.jpg\n")
    # The step before is the last good one.
    assert train_runs.steps(tmp_path / "poisoned") == list(range(max(1, step - 3), step))


def test_a_full_disk_stops_and_loses_nothing(folder, whole, tmp_path):
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        status, output = train_runs.run(folder, disk / "run", _EPOCHS, _SAVE, log=log)
        assert status == 1 and "No space left on device" in output.splitlines()[-1], output
        assert "Traceback" not in output
        saved = train_runs.steps(disk / "run")
        assert saved and saved[-1] < 12
        assert not list((disk / "run").rglob(".partial*"))
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        status, output = train_runs.run(folder, disk / "run", _EPOCHS, _SAVE, log=log)
        assert status == 0 and f"step_{saved[-1]:08d}" in output, output
        _assert_same(disk / "run", whole)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
