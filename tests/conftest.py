"""Paths that tests share, and the skip for tests that want data which may not enter the project."""

import os
import pathlib

# One line a start of TensorFlow would otherwise bury a test's own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

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
