import subprocess
import sys

MODULES = (
    "aflw2000 annotation coco curve diagnosis fddb landmark pairing prediction report runner table wider_face".split()
)


def test_evaluation_of_predictions_needs_no_tensorflow():
    # Half a second instead of five, and it runs where no TensorFlow is.
    code = "import importlib, sys\n"
    code += f"for name in {MODULES}: importlib.import_module(f'keras_retinaface.evaluation.{{name}}')\n"
    code += "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
