import os
import subprocess
import sys

import pytest

from keras_retinaface.weights import shipped

_FORKED = """
import os, sys
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file

found_by = detector.Detector(sys.argv[1], num_threads=2)
image = image_file.read(sys.argv[2])
assert len(found_by.detect(image)) == 1
child = os.fork()
if not child:
    try:
        print(len(found_by.detect(image)), flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0 and len(found_by.detect(image)) == 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("kind", ["tflite", "keras", "onnx"])
def test_a_forked_child_detects_or_says_why_not(light_model, photos, kind):
    # The second has no light form.
    models = {"tflite": light_model, "keras": "mobilenet025_public", "onnx": shipped.light("mobilenet025")}
    command = [sys.executable, "-W", "ignore", "-c", _FORKED, str(models[kind]), str(photos / "astronaut.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    expected = "TensorFlow ran in the parent before this process was forked, and would hang" if kind == "keras" else "1"
    assert done.stdout.splitlines()[-1].startswith(expected)
    assert kind != "onnx" or done.stdout == "1\n"
