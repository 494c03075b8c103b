import json
import subprocess
import sys

import pytest
import tensorflow as tf

from benchmarks import feeding
from tests import conftest


def _run(*options):
    command = [sys.executable, "-m", "benchmarks.train_step", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT, timeout=300)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="has what is asked for in vain")
def test_a_device_that_is_not_there_is_told_in_one_line():
    result = _run("--device=GPU:0")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith(
        "--device must be one that TensorFlow sees here, CPU:0. Received: GPU:0"
    )
    assert "Traceback" not in result.stderr


@pytest.mark.long
def test_what_feeds_a_device_is_measured(tmp_path):
    few = ("--size=64", "--batch_size=2", "--faces=2", "--runs=2", "--steps=2", "--modes=float32")
    result = _run("--device=CPU:0", *few, f"--output={tmp_path / 'found.json'}")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    made, eaten = found["pipeline_images_per_second_and_core"], found["step_images_per_second"]["float32"]
    assert made > 0 and eaten > 0
    assert found["cores"]["float32"] == pytest.approx(eaten / made, abs=0.1)


def test_cores_are_those_that_make_what_is_eaten():
    assert feeding.size({"float32": 300.0, "mixed_jit": "fails: no XLA here"}, 60.0) == {"float32": 5.0}
