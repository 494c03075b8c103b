"""RetinaFace in TensorFlow/Keras. Names load lazily, so that a `.tflite` detector never imports TensorFlow."""

import importlib

_HOMES = {"Config": "config", "Detector": "detector", "Face": "detector", "RetinaFace": "model"}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
