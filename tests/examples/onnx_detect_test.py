"""The file that users copy finds what `Detector` finds, with onnxruntime alone."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from keras_retinaface.inference import detector
from keras_retinaface.weights import shipped
from tests import conftest

# An entry of None makes the import of that name an ImportError, as where the package is not installed.
_RUN = """
import runpy, sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras", "onnx", "ai_edge_litert", "keras_retinaface"]))
sys.argv = ["onnx_detect.py", *sys.argv[1:]]
runpy.run_path("examples/onnx_detect.py", run_name="__main__")
"""


def test_the_example_equals_the_detector(photos, tmp_path):
    pytest.importorskip("onnxruntime")
    # PNG, because Pillow and OpenCV may read a JPEG one grey level apart.
    path, drawn, model = photos / "mediapipe_sergey.png", tmp_path / "drawn.png", shipped.light("mobilenet025")
    command = [sys.executable, "-c", _RUN, str(model), str(path), str(drawn)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT)
    assert done.returncode == 0, done.stderr
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    expected = detector.Detector(model).detect(image)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(expected) > 0
    for face, other in zip(found, expected):
        np.testing.assert_allclose(face["box"], other.box, atol=1e-3)
        np.testing.assert_allclose(face["landmarks"], other.landmarks, atol=1e-3)
        np.testing.assert_allclose(face["score"], other.score, atol=1e-6)
    assert np.abs(cv2.imread(str(drawn)).astype(int) - cv2.imread(str(path))).max() > 100
    assert len((conftest.ROOT / "examples" / "onnx_detect.py").read_text().splitlines()) < 80


def test_both_examples_say_how_they_are_called():
    for name in ("onnx_detect.py", "litert_detect.py"):
        for flags, status in ((["-h"], 0), (["--help"], 0), ([], 1)):
            command = [sys.executable, str(conftest.ROOT / "examples" / name), *flags]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == status and f"examples/{name}" in (done.stderr if status else done.stdout)
