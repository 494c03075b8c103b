import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_retinaface.network import model as model_lib
from keras_retinaface.training import start
from keras_retinaface.weights import arrays
from tests import conftest, ports

_RUNS = [[1, {}], [2, {}], [2, {"accumulate_steps": 2}]]
# Of two workers: changes of the config, and whether norms are frozen.
_WORKER_RUNS = [[{}, True], [{"accumulate_steps": 2}, False]]
_MODULE = "tests.keras_retinaface.network.replicas_child"


@pytest.mark.long
def test_replicas_and_parts_train_as_one_batch_on_one_device(tmp_path):
    command = [sys.executable, "-m", _MODULE, json.dumps(_RUNS), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT, timeout=900)
    assert result.returncode == 0, result.stderr
    histories = json.loads(result.stdout.splitlines()[-1])
    values = [np.load(tmp_path / f"{index}.npz") for index in range(len(_RUNS))]
    before = _weights_at_start()
    for other in (1, 2):
        _assert_same(histories[other], values[other], histories[0], values[0], before)
    assert max(np.abs(values[0][name] - old).max() for name, old in before.items()) > 1e-5
    _assert_workers_train_as(histories[0], values[0], before, tmp_path)


def _weights_at_start():
    begun = model_lib.RetinaFace()
    start.initialise(begun, "mobilenet025")
    return {name.replace("/", ":"): np.asarray(value) for name, value in arrays.names(begun).items()}


def _assert_same(history, values, expected_history, expected, before):
    for name, losses in expected_history.items():
        np.testing.assert_allclose(history[name], losses, rtol=1e-5, err_msg=name)
    for name, old in before.items():
        change = expected[name] - old
        tolerance = 1e-3 * np.abs(change).max() + 1e-7
        np.testing.assert_allclose(values[name] - old, change, atol=tolerance, err_msg=name)


def _assert_workers_train_as(history, values, before, folder):
    histories = _run_workers(folder)
    workers = [[np.load(folder / f"worker{index}_{run}.npz") for index in range(2)] for run in range(2)]
    for index in range(2):
        _assert_same(histories[index][0], workers[0][index], history, values, before)
    assert histories[0] == histories[1]
    # What norms learn beside gradients moves, and stays the same on both, though each sees other images.
    first, second = workers[1]
    moving = [name for name in before if "moving" in name and np.abs(first[name] - before[name]).max() > 1e-5]
    assert moving
    for name in before:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def _run_workers(folder):
    """Runs two workers that find each other on loopback; returns the histories of each."""
    processes = []
    for index, config in enumerate(ports.cluster(2)):
        command = [sys.executable, "-m", _MODULE, json.dumps(_WORKER_RUNS), str(folder)]
        environment = {**os.environ, "TF_CONFIG": config}
        # Files, since a full pipe would stop a worker while the other is waited for.
        with open(folder / f"out{index}", "w") as out, open(folder / f"log{index}", "w") as log:
            processes.append(subprocess.Popen(command, cwd=conftest.ROOT, env=environment, stdout=out, stderr=log))
    deadline = time.monotonic() + 400
    try:
        # Where one fails, the other waits for it.
        while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
            assert time.monotonic() < deadline, [(folder / f"log{index}").read_text() for index in range(2)]
            time.sleep(0.2)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for index, process in enumerate(processes):
        assert process.returncode == 0, (folder / f"log{index}").read_text()
    return [json.loads((folder / f"out{index}").read_text().splitlines()[-1]) for index in range(2)]
