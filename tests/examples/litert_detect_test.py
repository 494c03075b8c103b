"""The file that users copy finds what `Detector` finds, where there is no TensorFlow at all."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.export import tflite
from keras_retinaface.inference import detector
from keras_retinaface.network import model as model_lib
from tests import conftest

# An entry of None makes the import of that name an ImportError, as where the package is not installed.
_BLOCK = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tf_keras']));"


@pytest.fixture(scope="module")
def tflite_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "retinaface.tflite"
    tflite.write(model_lib.RetinaFace.from_preset("mobilenet025"), path, config_lib.Detection(), image_size=(480, 640))
    return path


def _run(code):
    result = subprocess.run([sys.executable, "-c", _BLOCK + code], capture_output=True, text=True, cwd=conftest.ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_example_equals_the_detector(tflite_path, photos, tmp_path):
    # PNG, because Pillow and OpenCV may read a JPEG one grey level apart.
    path, drawn = photos / "mediapipe_sergey.png", tmp_path / "drawn.png"
    arguments = ["litert_detect.py", str(tflite_path), str(path), str(drawn)]
    out = _run(
        f"sys.argv = {arguments!r}; import runpy; runpy.run_path('examples/litert_detect.py', run_name='__main__')"
    )
    found = [json.loads(line) for line in out.splitlines()]
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    expected = detector.Detector(str(tflite_path)).detect(image)
    assert len(found) == len(expected) > 0
    for face, other in zip(found, expected):
        np.testing.assert_allclose(face["box"], other.box, atol=1e-3)
        np.testing.assert_allclose(face["landmarks"], other.landmarks, atol=1e-3)
        np.testing.assert_allclose(face["score"], other.score, atol=1e-6)
    assert np.abs(cv2.imread(str(drawn)).astype(int) - cv2.imread(str(path))).max() > 100


@pytest.mark.slow
def test_the_detector_needs_no_tensorflow(tflite_path, photos):
    out = _run(
        "import time; start = time.perf_counter(); from keras_retinaface.inference import detector;"
        f"found_by = detector.Detector({str(tflite_path)!r}, num_threads=2); seconds = time.perf_counter() - start;"
        "from keras_retinaface.media import image_file; from keras_retinaface.formats import tflite_file;"
        f"faces = found_by.detect(image_file.read({str(photos / 'solvay1927.jpg')!r}));"
        f"said = tflite_file.read_metadata({str(tflite_path)!r});"
        "import json; print(json.dumps([len(faces), said['labels'], seconds]))"
    )
    count, labels, seconds = json.loads(out)
    assert (count, labels) == (29, ["face"])
    assert seconds < 10  # a busy machine is no failure


def test_the_example_is_short_and_imports_only_what_it_says():
    lines = (conftest.ROOT / "examples" / "litert_detect.py").read_text().splitlines()
    assert len(lines) < 90
    imports = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imports == {"__future__", "json", "sys", "cv2", "numpy", "ai_edge_litert"}
