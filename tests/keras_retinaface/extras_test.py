import subprocess
import sys

import pytest

from keras_retinaface import extras
from tests import conftest

# As where it is not installed.
_WITHOUT = "import sys\nsys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'h5py']))\n"


def _run(code):
    return subprocess.run([sys.executable, "-c", _WITHOUT + code], capture_output=True, text=True, cwd=conftest.ROOT)


def test_require_names_the_extra(monkeypatch):
    extras.require("tensorflow", "this")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'^reading needs onnx, which is not .*"keras-retinaface\[onnx\]"$'
    ) as caught:
        extras.require("onnx", "reading")
    assert caught.value.name == "onnx"


def test_what_is_no_extra_is_not_explained():
    assert extras.explain(ModuleNotFoundError("No module named 'numpy'", name="numpy")) is None
    assert extras.explain(ImportError("libGL.so.1", name="tensorflow")) is None
    said = 'export needs TensorFlow, which is not installed: pip install "keras-retinaface[tensorflow]"'
    assert extras.explain(ModuleNotFoundError("No", name="tensorflow.python"), "export") == said


@pytest.mark.parametrize(
    ("code", "user"),
    [
        ("from keras_retinaface import RetinaFace", "keras_retinaface.RetinaFace"),
        ("from keras_retinaface import Detector; Detector('mobilenet025')", "a Keras model"),
        ("from keras_retinaface import Detector; Detector('mobilenet025_fast')", "a Keras model"),
    ],
)
def test_python_names_the_extra(code, user):
    done = _run(code)
    said = f'{user} needs TensorFlow, which is not installed: pip install "keras-retinaface[tensorflow]"'
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: {said}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", "--model=mobilenet025_dense", "--images=examples/photos/astronaut.png", "--json=-"],
        ["export", "--output=OUT", "--tflite"],
        ["train", "--train_images=synthetic:8", "--workdir=OUT"],
        ["view", "--images=synthetic:8", "--output=OUT"],
    ],
)
def test_commands_name_the_extra_in_a_line(arguments, tmp_path):
    arguments = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    done = _run(f"from keras_retinaface.cli import main; main.main(['retinaface', *{arguments}])")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        ' needs TensorFlow, which is not installed: pip install "keras-retinaface[tensorflow]"'
    ), done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_does_not_load_is_told_like_one_that_is_missing(tmp_path, monkeypatch):
    (tmp_path / "fsspec.py").write_text("raise ImportError('built for another Python')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fsspec", raising=False)
    said = r'an address needs fsspec, .*: pip install "keras-retinaface\[bulk\]" \(built for another Python\)'
    with pytest.raises(ValueError, match=said):
        extras.load("fsspec", "an address")
