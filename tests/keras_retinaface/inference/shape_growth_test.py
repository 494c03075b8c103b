import pathlib
import subprocess
import sys
import threading

import pytest
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context as eager

from keras_retinaface.inference import shape_growth

# In a process of its own: memory that other tests have freed would hide the growth.
_CHILD = """
import sys
import numpy as np
from benchmarks import process
from keras_retinaface import RetinaFace, config
from keras_retinaface.inference import runtime

model, kind, folder = RetinaFace.from_preset("mobilenet025"), *sys.argv[1:]
if kind == "saved_model":
    from keras_retinaface.export import saved_model

    saved_model.write(model, folder, config.Detection())
    model = folder
opened = runtime.open_model(model, config.Detection())
sizes = np.random.RandomState(0).randint(64, 200, (240, 2))
for index, (height, width) in enumerate(sizes):
    opened.run(np.zeros((1, height, width, 3), np.uint8))
    if index in (119, 239):
        print(process.peak_memory())
"""


@pytest.mark.parametrize(
    "kind", [pytest.param("keras", marks=pytest.mark.long), pytest.param("saved_model", marks=pytest.mark.long)]
)
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_memory_is_flat_over_ever_new_sizes(tmp_path, kind):
    command = [sys.executable, "-c", _CHILD, kind, str(tmp_path / "saved_model")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    half, whole = (float(line) for line in done.stdout.split())
    assert whole < 1.05 * half


def _remapping():
    """Returns what this thread's calls of functions say of it: 0 is the default, which is on, and 2 is off."""
    config = config_pb2.ConfigProto.FromString(eager.context().function_call_options.config_proto_serialized)
    return config.graph_options.rewrite_options.remapping


def test_ops_are_left_apart_for_the_own_thread_and_the_own_call_only():
    apart = shape_growth.Fusing()
    apart._is_needed = True
    for width in range(shape_growth._MAX_SIZES):
        with apart.for_shape((1, 64, width, 3)):
            assert _remapping() == 0
    seen = []
    with apart.for_shape((1, 64, 999, 3)):
        assert _remapping() == 2
        # A thread that first calls TensorFlow now: with an option of all threads it would keep what it finds.
        other = threading.Thread(target=lambda: seen.append(_remapping()))
        other.start()
        other.join()
    assert seen == [0] and _remapping() == 0
