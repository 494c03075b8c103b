"""RetinaFace in TensorFlow/Keras. Names load lazily, so that a `.tflite` detector never imports TensorFlow."""

import importlib

__version__ = "0.2.0"

_CLASSES = {
    "Config": "config",
    "Detector": "inference.detector",
    "Face": "inference.face",
    "Faces": "inference.face",
    "RetinaFace": "network.model",
}
# Modules that the README and the notebook name.
_MODULES = {
    "face": "inference.face",
    "image_file": "media.image_file",
    "drawing": "media.drawing",
    "tflite_file": "formats.tflite_file",
    "unfolding": "weights.norms",
}

__all__ = sorted([*_CLASSES, *_MODULES, "__version__"])


def __getattr__(name):
    if name not in _CLASSES and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_CLASSES.get(name) or _MODULES[name]}")
    except ModuleNotFoundError as error:
        from keras_retinaface import extras

        said = extras.explain(error, f"{__name__}.{name}")
        raise ModuleNotFoundError(said or str(error), name=error.name) from error
    return getattr(module, name) if name in _CLASSES else module


def __dir__():
    return [*globals(), *__all__]
