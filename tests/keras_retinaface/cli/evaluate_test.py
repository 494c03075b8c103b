import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_retinaface.evaluation import aflw2000, annotation

ROOT = pathlib.Path(__file__).parents[3]
MINI = ROOT / "tests" / "testdata" / "wider_face_mini"


def _run(*flags):
    command = [sys.executable, str(ROOT / "evaluate_main.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _numbers(*flags):
    result = _run(*flags, "--json=-")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_predictions_from_elsewhere(tmp_path):
    numbers = _numbers(f"--predictions={MINI / 'pred'}", f"--ground_truth={MINI / 'gt'}", f"--curves={tmp_path}")
    expected = json.loads((MINI / "expected.json").read_text())["fast_matlab"]
    assert {subset: numbers[subset] for subset in expected} == pytest.approx(expected, abs=1e-12)
    assert (numbers["images"], numbers["missing_predictions"], numbers["partial"]) == (30, 0, False)
    assert (tmp_path / "precision_recall.png").stat().st_size > 1000


def test_missing_files_count_as_no_detections_unless_partial(tmp_path):
    shutil.copytree(MINI / "pred", tmp_path / "pred", ignore=lambda _, names: [n for n in names if n == "1--Beta"])
    flags = (f"--predictions={tmp_path / 'pred'}", f"--ground_truth={MINI / 'gt'}")
    whole = _run(*flags, "--json=-")
    assert "6 of 30 images have no prediction file" in whole.stderr and "1--Beta" in whole.stderr
    whole, part = json.loads(whole.stdout), _numbers(*flags, "--partial")
    assert (whole["images"], whole["missing_predictions"]) == (30, 6)
    assert (part["images"], part["missing_predictions"], part["partial"]) == (24, 0, True)
    assert part["images_left_out"] == 6 and whole["faces"] > part["faces"] and whole["hard"] < part["hard"]


@pytest.mark.parametrize(
    "flags, status, message",
    [
        (("--model=mobilenet025",), 1, "give --ground_truth, --landmarks, --fddb or --dense"),
        (("--ground_truth=x",), 1, "give either --model or --predictions"),
        (("--model=mobilenet025", "--ground_truth=x"), 1, "need --images"),
        (("--predictions=nowhere", f"--ground_truth={MINI / 'gt'}"), 1, "no directory of predictions at nowhere"),
        ((f"--predictions={MINI / 'pred'}", "--ground_truth=nowhere"), 1, "wider_face_val.mat is missing"),
        (("--model=nothing", f"--images={MINI}", f"--ground_truth={MINI / 'gt'}"), 1, "lacks 30 of 30 images"),
        (("--predictions=x", "--partial", f"--ground_truth={MINI / 'gt'}"), 1, "x holds no file of 30 images"),
        (("--predictions=x", "--ground_truth=y", "stray"), 1, "unknown arguments: ['stray']"),
    ],
)
def test_mistakes_are_named_and_end_with_a_status(flags, status, message):
    result = _run(*flags)
    assert result.returncode == status and message in result.stdout + result.stderr


def test_wrong_format_is_named_instead_of_scoring_zero(tmp_path):
    shutil.copytree(MINI / "pred", tmp_path / "pred")
    for path in (tmp_path / "pred").rglob("*.txt"):
        title, count, *rows = path.read_text().splitlines()
        rows = [[float(value) for value in row.split()] for row in rows]
        corners = [f"{x} {y} {x + w} {y + h} {score}" for x, y, w, h, score in rows]
        path.write_text("\n".join([title, count, *corners]) + "\n")
    result = _run(f"--predictions={tmp_path / 'pred'}", f"--ground_truth={MINI / 'gt'}")
    assert result.returncode == 1 and "The rows look like corners `x1 y1 x2 y2 score`" in result.stderr


@pytest.mark.slow
def test_model_on_annotated_photo_and_resumed(photos, tmp_path):
    # Read off the photo by eye.
    face = "astronaut.png,176,70,95,117,203,100,247,103,226,122,207,143,240,144"
    (tmp_path / "faces.csv").write_text(",".join(annotation.CSV_COLUMNS) + f"\n{face}\n")
    flags = (
        "--model=mobilenet025",
        f"--images={photos}",
        f"--landmarks={tmp_path / 'faces.csv'}",
        f"--predictions_out={tmp_path / 'out'}",
        "--flip",
        "--voting",
        "--image_size=640",
    )
    numbers = _numbers(*flags)
    assert numbers["nme"] < 0.06 and numbers["failure_rate"] == 0
    assert _numbers(*flags)["nme"] == numbers["nme"]
    # The stored file is the official format with the landmarks behind.
    title, count, first, *_ = (tmp_path / "out" / "astronaut.txt").read_text().splitlines()
    assert title == "astronaut.jpg" and int(count) >= 1 and len(first.split()) == 15


def test_meshes(tmp_path):
    landmarks = np.random.default_rng(0).uniform(0, 100, (2, 68, 3))
    np.savez(tmp_path / "truth.npz", names=["a", "b"], landmarks=landmarks, yaw=[5.0, -50.0])
    np.savez(tmp_path / "found.npz", names=["a", "b"], landmarks=landmarks + [3, 4, 5])
    numbers = _numbers(f"--dense={tmp_path / 'truth.npz'}", f"--meshes={tmp_path / 'found.npz'}")
    expected = 5 / aflw2000.tight_size(landmarks)
    assert numbers["dense"]["points_2d"]["all"] == pytest.approx(expected.mean())
    assert numbers["dense"]["points_3d"]["30-60"] == pytest.approx(expected[1])


@pytest.mark.slow
def test_model_on_fddb(photos, tmp_path):
    (tmp_path / "2002").mkdir()
    Image.open(photos / "astronaut.png").convert("RGB").save(tmp_path / "2002" / "img_1.jpg", quality=95)
    (tmp_path / "FDDB-fold-01-ellipseList.txt").write_text("2002/img_1\n1\n62 48 1.57 224 125  1\n")
    numbers = _numbers("--model=mobilenet025", f"--images={tmp_path}", f"--fddb={tmp_path}", f"--curves={tmp_path}")
    assert numbers["fddb"]["discrete"]["500"] == 1 and numbers["fddb"]["continuous"]["500"] > 0.6
    assert (tmp_path / "fddb_roc.png").is_file()


@pytest.mark.slow
def test_model_on_a_part_of_the_validation_set(shared, tmp_path):
    names = ["0--Parade/0_Parade_marchingband_1_465.jpg", "20--Family_Group/20_Family_Group_Family_Group_20_101.jpg"]
    (tmp_path / "0--Parade").mkdir()
    (tmp_path / "20--Family_Group").mkdir()
    for name in names:
        shutil.copy(shared / "wider_face" / "val" / "images" / name, tmp_path / name)
    flags = (
        "--model=mobilenet025",
        f"--images={tmp_path}",
        f"--ground_truth={shared / 'wider_face' / 'ground_truth'}",
    )
    result = _run(*flags)
    assert result.returncode == 1 and "lacks 3224 of 3226 images" in result.stderr
    numbers = _numbers(*flags, "--partial")
    assert numbers["images"] == 2 and numbers["partial"] and numbers["easy"] > 0.8 and numbers["seconds_per_image"] > 0
