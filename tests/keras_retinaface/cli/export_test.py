"""`export` as a command: its table, and what `--onnx` writes, measures and refuses."""

import json
import subprocess
import sys

import pytest

from tests import conftest, forked

_SAME = {
    **{"images": 7, "faces": 37, "faces_exported": 37, "unmatched": 0, "megabytes": 1.76},
    **{"box": 0.004, "box_mean": 0.001, "landmark": 0.003, "landmark_mean": 0.001, "score": 1e-6, "score_mean": 1e-7},
}
_CHANGES = {
    "same": {},
    "close": {"box": 6.0, "box_mean": 0.6, "score": 0.05, "score_mean": 0.01},
    "differs": {"unmatched": 4, "faces_exported": 33},
}


@pytest.fixture(scope="module")
def table():
    reports = {f"{name}.tflite": {**_SAME, **change} for name, change in _CHANGES.items()}
    code = "import json, sys; from keras_retinaface.cli import export; export._print_table(json.load(sys.stdin))"
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, input=json.dumps(reports), capture_output=True, text=True, cwd=conftest.ROOT)
    assert not child.returncode, child.stderr
    return child.stdout.splitlines()


def test_the_table_is_narrow_and_every_row_has_a_verdict(table):
    assert max(map(len, table)) < 120
    assert [line.split()[-1] for line in table[:4]] == ["verdict", "same", "close", "differs"]


def _run(*arguments):
    return forked.run("export_main.py", *arguments)


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
    result = _run(f"--output={tmp_path}", "--onnx", "--quantize=float16", "--float_layers=stage1_0")
    assert result.returncode == 1 and not list(tmp_path.iterdir())
    assert "--float_layers needs --tflite or --onnx, and --quantize=int8" in result.stderr.splitlines()[-1]
