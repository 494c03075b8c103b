"""Makes assets/PRESET.onnx: what a detector runs a preset by where TensorFlow is not loaded.

    python -m tools.light_form

A test holds that it is made of the shipped weights.
"""

from __future__ import annotations

import argparse
import pathlib


def main() -> None:
    """Writes the light form of every preset that has one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, help="folder to write into; the package's assets by default")
    arguments = parser.parse_args()
    from keras_retinaface.export import onnx
    from keras_retinaface.network import model as model_lib
    from keras_retinaface.weights import shipped

    for name, preset in shipped.PRESETS.items():
        if preset.light:
            model = model_lib.RetinaFace.from_preset(name)
            path = (arguments.output or shipped.ASSETS) / preset.light
            onnx.light(model, path, licence=preset.licence, source=name)


if __name__ == "__main__":
    main()
