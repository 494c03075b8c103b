"""Train -> workdir -> export -> the same faces, by the commands that a user types."""

import csv
import json

import pytest

from keras_retinaface import config as config_lib
from tests import forked

pytestmark = pytest.mark.slow


def test_train_export_detect(tmp_path, photos):
    workdir = tmp_path / "run"
    result = forked.run(
        "train_main.py", "--flagfile=configs/quickstart.flags", f"--workdir={workdir}", "--epochs=3", "--batch_size=3"
    )
    assert result.returncode == 0, result.stderr
    assert config_lib.Config.from_json((workdir / "config.json").read_text()).training.batch_size == 3
    assert "--epochs=3" in (workdir / "run.flags").read_text().splitlines()
    assert len(list((workdir / "checkpoints").iterdir())) == 3 and list((workdir / "logs").rglob("events*"))
    with open(workdir / "history.csv") as file:
        history = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in history]
    # The weights know these photos: what training may not do is forget. That it learns is model_test's to show.
    assert len(losses) == 3 and max(losses) < 0.3

    report = tmp_path / "parity.json"
    result = forked.run("export_main.py", f"--model={workdir}", f"--output={tmp_path}", "--tflite", f"--json={report}")
    assert result.returncode == 0, result.stderr
    parity = json.loads(report.read_text())["retinaface.tflite"]
    assert parity["faces"] == parity["faces_exported"] > 30 and parity["unmatched"] == 0
    assert parity["box"] < 0.5 and parity["score"] < 1e-3

    faces = {}
    for model in (workdir, tmp_path / "retinaface.tflite"):
        lines = tmp_path / "faces.jsonl"
        result = forked.run(
            "detect_main.py", f"--model={model}", f"--images={photos / 'astronaut.png'}", f"--json={lines}"
        )
        assert result.returncode == 0, result.stderr
        (faces[model],) = json.loads(lines.read_text())["faces"]
    # One at 512 px as it is, the other fitted into 480 x 640.
    first, second = faces.values()
    assert max(abs(a - b) for a, b in zip(first["box"], second["box"])) < 8


def test_training_faults_are_named_and_end_with_a_status(tmp_path):
    result = forked.run("train_main.py", f"--workdir={tmp_path}", "--train_annotations=missing.txt", "--train_images=.")
    assert result.returncode == 1 and "missing.txt" in result.stderr
    result = forked.run("train_main.py", f"--workdir={tmp_path}", "--train_annotations=x", "--box_weight=-1")
    assert result.returncode == 1 and "`box_weight` must not be negative" in result.stderr
    result = forked.run("train_main.py", "--train_annotations=x")
    assert result.returncode == 1 and "--workdir must be given" in result.stderr + result.stdout


def test_export_of_nothing_is_an_error(tmp_path):
    result = forked.run("export_main.py", "--model=no_such_model", f"--output={tmp_path}", "--tflite")
    assert result.returncode == 1 and "`model` must be" in result.stderr
