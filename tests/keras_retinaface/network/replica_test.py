import json
import subprocess
import sys

import numpy as np
import pytest

from keras_retinaface.network import model as model_lib
from keras_retinaface.training import start
from keras_retinaface.weights import arrays
from tests import conftest

_RUNS = [[1, {}], [2, {}], [2, {"accumulate_steps": 2}]]


@pytest.mark.slow
def test_replicas_and_parts_train_as_one_batch_on_one_device(tmp_path):
    command = [sys.executable, "-m", "tests.keras_retinaface.network.replicas_child", json.dumps(_RUNS), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT, timeout=900)
    assert result.returncode == 0, result.stderr
    histories = json.loads(result.stdout.splitlines()[-1])
    values = [np.load(tmp_path / f"{index}.npz") for index in range(len(_RUNS))]
    begun = model_lib.RetinaFace()
    start.initialise(begun, "mobilenet025")
    before = {name.replace("/", ":"): np.asarray(value) for name, value in arrays.names(begun).items()}
    for other in (1, 2):
        for name, losses in histories[0].items():
            np.testing.assert_allclose(histories[other][name], losses, rtol=1e-5, err_msg=f"{_RUNS[other]}: {name}")
        for name, old in before.items():
            change = values[0][name] - old
            tolerance = 1e-3 * np.abs(change).max() + 1e-7
            np.testing.assert_allclose(values[other][name] - old, change, atol=tolerance, err_msg=name)
    assert max(np.abs(values[0][name] - old).max() for name, old in before.items()) > 1e-5
