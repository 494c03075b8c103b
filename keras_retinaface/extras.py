"""What to install where an optional package is missing, in one line; the groups are pyproject.toml's extras."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

_PACKAGE = "keras-retinaface"
# What is imported -> the extra that brings it.
_EXTRAS = {
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "h5py": "tensorflow",
    "tensorboard": "tensorflow",
    "tensorflow_graphics": "mesh",
    "scipy": "evaluate",
    "matplotlib": "evaluate",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "ai_edge_litert": "tflite",
    "flatbuffers": "tflite",
    "pillow_heif": "heic",
    "pyarrow": "parquet",
    "fsspec": "bulk",
    "ray": "bulk",
}
_NAMES = dict.fromkeys(("tensorflow", "keras", "h5py"), "TensorFlow") | {"ai_edge_litert": "LiteRT", "ray": "Ray"}


def require(module: str, user: str) -> None:
    """Makes sure that an optional package is there, without importing it.

    Args:
        module: its top-level name.
        user: what needs it, as the beginning of a sentence.

    Raises:
        ModuleNotFoundError: if it is not; says what needs it and how it is installed.
    """
    if sys.modules.get(module) is None and importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(_explain(module, user), name=module)


def load(module: str, user: str) -> types.ModuleType:
    """Imports an optional package, or a module of one.

    Args:
        module: its name.
        user: what needs it, as the beginning of a sentence.

    Raises:
        ValueError: if it is missing, or cannot be imported beside what else is installed; says how it is installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{_explain(module.partition('.')[0], user)} ({error})") from error


def explain(error: ImportError, user: str = "this") -> str | None:
    """Returns one line that says how to install what an import lacked; None where it is none of the extras.

    Args:
        error: what the import raised.
        user: what needs the package, as the beginning of a sentence.
    """
    module = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module not in _EXTRAS:
        return None
    return str(error) if "pip install" in str(error) else _explain(module, user)


def _explain(module: str, user: str) -> str:
    name = _NAMES.get(module, module)
    return f'{user} needs {name}, which is not installed: pip install "{_PACKAGE}[{_EXTRAS[module]}]"'
