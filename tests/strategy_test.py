"""Trainings on many devices: two in one process, and two processes that find each other on loopback."""

import subprocess
import sys
import time

import numpy as np
import pytest

from tests import conftest, ports, train_runs

pytestmark = pytest.mark.slow

# Twenty steps.
_FLAGS = ("--epochs=5", "--steps_per_epoch=4", "--save_every=3", "--batch_size=4", "--ema_decay=0")
# Seconds; the start counts too, and takes long on a machine with other work.
_TIMEOUT = 240
_LOSSES = ("loss", "class_loss", "box_loss", "landmark_loss")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train_runs.write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def one(folder, tmp_path_factory):
    """The workdir of a run on one device."""
    path = tmp_path_factory.mktemp("one")
    status, output = train_runs.run(folder, path / "run", *_FLAGS, log=path / "log")
    assert status == 0, output
    return path / "run"


def _assert_same_curve(workdir, one):
    curve, expected = train_runs.losses(workdir), train_runs.losses(one)
    assert len(expected["loss"]) == 5 and np.ptp(expected["loss"]) > 0.01
    for name in _LOSSES:
        np.testing.assert_allclose(curve[name], expected[name], atol=1e-4, err_msg=name)
    last = f"checkpoints/step_{20:08d}.npz"
    with np.load(workdir / last) as values, np.load(one / last) as others:
        for name in others.files:
            if name.startswith("weight/"):
                np.testing.assert_allclose(values[name], others[name], atol=1e-5, err_msg=name)


@pytest.mark.long
def test_two_devices_train_as_one(folder, one, tmp_path):
    code = (
        "import sys\n"
        "import tensorflow as tf\n"
        "from keras_retinaface.cli import train\n"
        "from absl import app\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "app.run(train.main)\n"
    )
    flags = train_runs.arguments(folder, tmp_path / "run", *_FLAGS, "--strategy=mirrored")
    command = [sys.executable, "-c", code, *flags]
    result = subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT, timeout=400)
    assert result.returncode == 0, result.stderr
    assert "on 2 devices" in result.stderr
    _assert_same_curve(tmp_path / "run", one)


def _start_workers(folder, tmp_path, *flags):
    """Starts two workers of a cluster; returns processes and logs."""
    processes, logs = [], []
    for index, config in enumerate(ports.cluster(2)):
        logs.append(tmp_path / f"log{index}")
        processes.append(
            train_runs.start(
                folder,
                tmp_path / "run",
                *_FLAGS,
                "--strategy=multi_worker",
                *flags,
                log=logs[-1],
                environment={"TF_CONFIG": config},
            )
        )
    return processes, logs


@pytest.mark.long
def test_two_workers_train_as_one_though_one_is_killed(folder, one, tmp_path):
    processes, logs = _start_workers(folder, tmp_path, f"--worker_timeout={_TIMEOUT}")
    try:
        train_runs.wait_for(lambda: 8 in train_runs.steps(tmp_path / "run"), processes[0], logs[0])
        processes[1].kill()
        processes[1].wait()
        killed = time.monotonic()
        assert processes[0].wait(timeout=2 * _TIMEOUT) == 1
        assert time.monotonic() - killed < _TIMEOUT + 10
        assert "start the same command on all workers to go on from the last checkpoint" in logs[0].read_text()
        assert 8 <= train_runs.steps(tmp_path / "run")[-1] < 20
        processes, logs = _start_workers(folder, tmp_path)
        for process, log in zip(processes, logs):
            assert process.wait(timeout=300) == 0, log.read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert "going on from" in logs[1].read_text()
    _assert_same_curve(tmp_path / "run", one)
