import json

import numpy as np
import pytest
from PIL import Image

from keras_retinaface.evaluation import annotation, prediction, report
from keras_retinaface.inference import merging


def test_wider_face_report(mini, ground_truth, predictions, tmp_path):
    numbers = report.of_wider_face(predictions, ground_truth, curves=tmp_path)
    expected = json.loads((mini / "expected.json").read_text())["fast_matlab"]
    assert {subset: numbers[subset] for subset in expected} == pytest.approx(expected, abs=1e-12)
    assert 0 < numbers["map"] < numbers["hard"] and 0 < numbers["map_all"] < numbers["map_all_50"]
    assert {path.name for path in tmp_path.iterdir()} == {"precision_recall.csv", "precision_recall.png"}


def test_landmark_report(tmp_path):
    # A face of 40 x 40 whose five points are all off by 2 pixels, and one that nothing found.
    points = np.arange(10.0).reshape(1, 5, 2)
    faces = [
        annotation.Annotation("d/a.jpg", np.array([[0.0, 0, 40, 40]]), points),
        annotation.Annotation("d/b.jpg", np.array([[0.0, 0, 40, 40]]), points),
    ]
    row = np.concatenate([[0, 0, 40, 40, 0.9], (points + [2, 0]).reshape(-1)])
    numbers = report.of_landmarks(
        {"d/a": prediction.of_rows(row[None]), "d/b": merging.empty()}, faces, curves=tmp_path
    )
    assert (numbers["nme"], numbers["failure_rate"]) == (pytest.approx(0.05), 0.5)
    assert numbers["landmarks"]["unmatched"] == 1
    lines = (tmp_path / "landmark_errors.csv").read_text().splitlines()
    assert (lines[0], len(lines), float(lines[-1].split(",")[1])) == ("error,share", 102, 0.5)
    with pytest.raises(ValueError, match="landmarks need predictions with 15 numbers a row. Received: 5"):
        report.of_landmarks({"d/a": prediction.of_rows(row[None, :5])}, faces)


def test_fddb_report(tmp_path):
    Image.new("RGB", (200, 150)).save(tmp_path / "a.jpg")
    # The box around a circle of radius 40 covers pi / 4 of itself with it; a second box is false.
    boxes = np.array([[40.0, 40, 80, 80, 0.9], [150, 100, 20, 20, 0.5]])
    faces = {"a": np.array([[40.0, 40, 0, 80, 80]])}
    numbers = report.of_fddb(
        {"a": prediction.of_rows(np.pad(boxes, ((0, 0), (0, 10))))}, faces, tmp_path, curves=tmp_path / "curves"
    )
    assert numbers["fddb"]["discrete"]["1000"] == 1
    assert numbers["fddb"]["continuous"]["1000"] == pytest.approx(np.pi / 4, abs=0.01)
    assert (tmp_path / "curves" / "fddb_roc.csv").read_text().splitlines()[1].startswith("0.9,0,1.0,")


def test_nan_becomes_null():
    assert (
        report.to_json({"easy": float("nan"), "by": {"x": 1.5}})
        == '{\n  "easy": null,\n  "by": {\n    "x": 1.5\n  }\n}\n'
    )
