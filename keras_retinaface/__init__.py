"""RetinaFace in TensorFlow/Keras. Names load lazily, so that a `.tflite` detector never imports TensorFlow."""

import importlib

_CLASSES = {
    "Config": "config",
    "Detector": "inference.detector",
    "Face": "inference.detector",
    "RetinaFace": "network.model",
}
# Modules that the README and the notebook name.
_MODULES = {
    "image_file": "media.image_file",
    "drawing": "media.drawing",
    "tflite_file": "formats.tflite_file",
    "unfolding": "weights.norms",
}

__all__ = sorted([*_CLASSES, *_MODULES])


def __getattr__(name):
    if name in _CLASSES:
        return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
