"""Trainings that are killed, starved of disk, fed broken data and started again."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline import dataset
from keras_retinaface import config as config_lib
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


@pytest.fixture
def disk(tmp_path):
    """A folder, and a function that sets how many megabytes it may hold; None where that is not allowed."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield path, None
        return
    yield path, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}m", str(path)], check=True)
    subprocess.run(["umount", "-l", str(path)], check=False)


@pytest.mark.long
def test_killed_and_starved_ends_as_if_nothing_had_been(folder, whole, disk, tmp_path):
    (path, set_size), log = disk, tmp_path / "log"
    workdir = path / "run"
    # In the middle of the first epoch, whose row of the history must not miss the steps before.
    process = train_runs.start(folder, workdir, _EPOCHS, _SAVE, log=log)
    train_runs.wait_for(lambda: train_runs.steps(workdir), process, log)
    process.kill()
    process.wait()
    assert train_runs.steps(workdir) == [3]

    if set_size:
        # Room for one more checkpoint and the model, not for two.
        set_size(13)
        status, output = train_runs.run(folder, workdir, _EPOCHS, _SAVE, log=log)
        assert status == 1 and "No space left on device" in output.splitlines()[-1], output
        assert "Traceback" not in output and not list(workdir.rglob(".partial*"))
        set_size(60)
    else:
        process = train_runs.start(folder, workdir, _EPOCHS, _SAVE, log=log)
        train_runs.wait_for(lambda: len(train_runs.steps(workdir)) > 1, process, log)
        process.kill()
        process.wait()
    assert f"going on from {workdir / 'checkpoints/step_00000003.npz'}" in log.read_text()
    assert 12 > train_runs.steps(workdir)[-1] > 3

    # Whoever copies checkpoints may cut one off.
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
        "from keras_retinaface.cli import train\n"
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
        "        status = train.main(['train_main.py'])\n"
        "    absl.logging.get_absl_logger().removeHandler(handler)\n"
        "    print('\\nRESULT', json.dumps([status, stream.getvalue()]), flush=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(runs)], capture_output=True, text=True, cwd=conftest.ROOT, timeout=300
    )
    lines = [line[7:] for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(lines) == len(runs), result.stderr
    return [json.loads(line) for line in lines]


@pytest.mark.long
def test_faults_are_one_line_and_lose_nothing(folder, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = {path: path.read_bytes() for path in sorted(workdir.rglob("*")) if path.is_file()}
    (tmp_path / "file").write_text("")
    changed, unwritable, finished, exploded = _run_in_turn(
        train_runs.arguments(folder, workdir, _EPOCHS, _SAVE, "--learning_rate=0.002", "--mixed_precision"),
        train_runs.arguments(folder, tmp_path / "file" / "run"),
        train_runs.arguments(folder, workdir, _EPOCHS, "--save_every=1"),
        train_runs.arguments(folder, tmp_path / "exploded", "--epochs=1", "--save_every=100", "--learning_rate=1e30"),
    )
    assert changed[0] == 1 and changed[1].count("\n") == 1
    assert "(--learning_rate=0.001 then, 0.002 now, --mixed_precision=False then, True now)" in changed[1]
    assert unwritable[0] == 1 and unwritable[1].count("\n") == 1
    assert f"`workdir` cannot be written: Not a directory: {tmp_path / 'file' / 'run'}" in unwritable[1]
    assert finished == [0, ""]
    assert {path: path.read_bytes() for path in before} == before
    # The first step makes the weights huge; the losses show it soon after.
    assert exploded[0] == 1 and exploded[1].count("\n") == 1 and exploded[1].startswith("step "), exploded
    step = int(exploded[1].split()[1].rstrip(":"))
    config = config_lib.Config().replace(image_size=(64, 64), batch_size=2)
    batches = dataset.make_dataset(config, str(folder), str(folder / "label.txt"), start_step=step - 1, with_names=True)
    names = [name.decode() for name in next(iter(batches))[1]["image_name"].numpy()]
    assert "class_loss" in exploded[1]
    assert exploded[1].endswith(f"is not finite; lower --learning_rate?; its images: {', '.join(names)}\n")
    assert train_runs.steps(tmp_path / "exploded") == []
