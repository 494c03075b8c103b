import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.inference import runtime, shape_growth
from keras_retinaface.network import model as model_lib

# In a process of its own: memory that other tests have freed would hide the growth.
_CHILD = """
import sys
import numpy as np
from benchmarks import process
from keras_retinaface import RetinaFace, config
from keras_retinaface.inference import runtime

model, kind, folder = RetinaFace.from_preset("mobilenet025"), *sys.argv[1:]
if kind == "saved_model":
    from keras_retinaface.export import tflite

    tflite.saved_model(model, folder, config.Detection())
    model = folder
opened = runtime.open_model(model, config.Detection())
sizes = np.random.RandomState(0).randint(64, 200, (240, 2))
for index, (height, width) in enumerate(sizes):
    opened.run(np.zeros((1, height, width, 3), np.uint8))
    if index in (119, 239):
        print(process.peak_memory())
"""


@pytest.mark.parametrize("kind", ["keras", "saved_model"])
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_memory_is_flat_over_ever_new_sizes(tmp_path, kind):
    command = [sys.executable, "-c", _CHILD, kind, str(tmp_path / "saved_model")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    half, whole = (float(line) for line in done.stdout.split())
    assert whole < 1.05 * half


def test_the_option_is_as_it_was_after_a_call():
    found_by = runtime.KerasRuntime(model_lib.RetinaFace.from_preset("mobilenet025"), config_lib.Detection())
    before = tf.config.optimizer.get_experimental_options()
    for width in range(64, 64 + shape_growth._MAX_SIZES + 2):
        found_by.run(np.zeros((1, 64, width, 3), np.uint8))
    assert before.get("remapping", True) == tf.config.optimizer.get_experimental_options().get("remapping", True)
