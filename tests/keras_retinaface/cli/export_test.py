"""`export --onnx` as a command: what it writes, measures and refuses."""

import json
import subprocess
import sys

from tests import conftest


def _run(*arguments):
    command = [sys.executable, "export_main.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT)


def test_the_command_writes_onnx_and_measures_it(photos, tmp_path):
    from keras_retinaface.inference import detector
    from keras_retinaface.media import image_file

    report = tmp_path / "report.json"
    photo = photos / "astronaut.png"
    flags = ("--onnx", "--quantize=float16", "--image_size=320,320", f"--parity_images={photo}", f"--json={report}")
    result = _run(f"--output={tmp_path}", *flags)
    assert result.returncode == 0, result.stderr
    said = json.loads(report.read_text())["retinaface.onnx"]
    assert said["faces"] == said["faces_exported"] == 1 and said["box"] < 0.5 and said["score"] < 1e-3
    found_by = detector.Detector(tmp_path / "retinaface.onnx")
    assert found_by._runtime.image_sizes == ((320, 320),) and len(found_by.detect(image_file.read(photo))) == 1


def test_flags_that_onnx_does_not_take_are_refused(tmp_path):
    result = _run(f"--output={tmp_path}", "--onnx", "--quantize=int8")
    assert result.returncode == 1 and not list(tmp_path.iterdir())
    assert result.stderr.splitlines()[-1].endswith("--onnx takes none or float16. Received: --onnx")
