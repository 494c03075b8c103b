"""Paths that tests share, and the skip for tests that want data which may not enter the project."""

import functools
import os
import pathlib
import shutil

# One line a start of TensorFlow would otherwise bury a test's own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests side by side, a process for each core, would otherwise take every core for each of their convolutions.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# As inference/onnx_runtime.py sets it, for tests that import onnxruntime themselves.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import pytest
from absl import flags

from keras_retinaface.bulk import shard

# Scripts are programs of their own, and several call a flag `--output`; in this one process they must not collide.
flags.Flag.__init__ = functools.partialmethod(flags.Flag.__init__, allow_override=True)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="Run the tests that take longest too.")
    parser.addoption("--long_part", metavar="I/N", help="Run part I of N of the tests that take longest, as CI does.")


def pytest_collection_modifyitems(config, items):
    # As mesh/rasterizer.py looks for one.
    has_compiler = bool(os.environ.get("CXX") or any(map(shutil.which, ("g++", "clang++", "c++"))))
    part, num_parts = 0, 0
    if config.getoption("--long_part"):
        try:
            part, num_parts = shard.parse(config.getoption("--long_part"))
        except ValueError as error:
            raise pytest.UsageError(f"--long_part: {error}") from error
    long_items = [item for item in items if item.get_closest_marker("long")]
    for number, item in enumerate(long_items):
        if not config.getoption("--long") and (not num_parts or number % num_parts != part):
            item.add_marker(pytest.mark.skip(reason="takes long: ./run test --long"))
    for item in items:
        if item.get_closest_marker("compiler") and not has_compiler:
            item.add_marker(pytest.mark.skip(reason="no C++ compiler (g++, clang++ or $CXX)"))


ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def photos():
    """The folder of photos that the project ships."""
    return ROOT / "examples" / "photos"


@pytest.fixture
def shared():
    """The folder with research data beside the project."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED


@pytest.fixture(scope="session")
def light_model(tmp_path_factory):
    """A `.tflite` for 240 x 320, which starts in a second, for tests of commands that care little what is found."""
    from keras_retinaface import config
    from keras_retinaface.export import tflite
    from keras_retinaface.network import model as model_lib

    path = tmp_path_factory.mktemp("light_model") / "retinaface.tflite"
    tflite.write(model_lib.RetinaFace.from_preset("mobilenet025"), path, config.Detection(), image_size=(240, 320))
    return path
