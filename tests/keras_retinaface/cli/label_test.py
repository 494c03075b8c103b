"""`retinaface label` as one runs it, read back by the readers of training."""

import json
import shutil

import numpy as np
import pytest

from data_pipeline import coco, wider_face
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from tests import command_runs

SCRIPT = "keras_retinaface.cli.label"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos with three faces and with none, a broken one, and a copy of the first whose name is no line of text."""
    from tests import conftest

    folder, source = tmp_path_factory.mktemp("photos"), conftest.ROOT / "examples" / "photos"
    (folder / "a b").mkdir()
    shutil.copy(source / "tfjs_three_people.jpg", folder / "a b" / "three.jpg")
    image_file.write(folder / "none.png", np.full((80, 120, 3), 200, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def labelled(folder, light_model, tmp_path_factory):
    """What the command says with both kinds of output, and these."""
    out = tmp_path_factory.mktemp("labels")
    text, json_file = out / "label.txt", out / "label.json"
    faces = detector.Detector(str(light_model), score_threshold=0.1).detect(
        image_file.read(folder / "a b" / "three.jpg")
    )
    # Between the scores of the second and third face, so that one row at least is ignored.
    threshold = f"--face_threshold={(faces[1].score + faces[2].score) / 2}"
    flags = (f"--images={folder}", f"--model={light_model}", threshold)
    runs = command_runs.run_in_turn(
        SCRIPT, [*flags, f"--output={text}"], [*flags, f"--output={json_file}", "--score_threshold=0.3"]
    )
    return runs, text, json_file, faces


def test_a_broken_photo_costs_itself_and_the_status(labelled):
    for status, _, errors in labelled[0]:
        assert status == 1 and "broken.jpg" in errors and errors.split()[-2] == "wrote"
        assert "       2        1        2 " in errors


def test_faces_are_learnt_and_doubtful_ones_ignored(labelled, folder):
    _, text, json_file, faces = labelled
    size = image_file.read(folder / "a b" / "three.jpg").shape[1::-1]
    for records, lowest in ((wider_face.read(str(text)), 0.1), (coco.read(str(json_file)), 0.3)):
        by_name = {record.image: record for record in records}
        assert sorted(by_name) == ["a b/three.jpg", "none.png"] and not len(by_name["none.png"].boxes)
        record = by_name["a b/three.jpg"]
        expected = [face for face in faces if face.score >= lowest]
        assert list(record.is_ignored) == [False, False] + [True] * (len(expected) - 2) and True in record.is_ignored
        boxes = np.clip([face.box for face in expected], 0, [*size, *size])
        np.testing.assert_allclose(record.boxes, boxes, atol=0.11)
    assert record.landmark_visible[:2].all() and not record.landmark_visible[2:].any()
    np.testing.assert_allclose(record.landmarks[0], faces[0].landmarks, atol=0.06)
    assert [image["width"] for image in json.loads(json_file.read_text())["images"]] == [size[0], 120]


def test_what_cannot_be_is_refused(folder, light_model, tmp_path):
    model = f"--model={light_model}"
    cases = [
        ([f"--images={folder}", f"--output={tmp_path}/label.csv"], "expected a .txt or .json"),
        ([f"--images={folder / 'none.png'}", f"--output={tmp_path}/label.txt"], "--images: expected a folder"),
        ([f"--images={tmp_path}", f"--output={tmp_path}/label.txt"], "no images there"),
        (
            [f"--images={folder}", f"--output={tmp_path}/label.txt", "--face_threshold=0.05"],
            "Received: --score_threshold=0.1 --face_threshold=0.05",
        ),
        ([f"--images={folder}", f"--output={tmp_path}/no/label.txt"], "--output"),
    ]
    for (status, _, errors), (_, said) in zip(
        command_runs.run_in_turn(SCRIPT, *([model, *flags] for flags, _ in cases)), cases
    ):
        assert status == 1 and said in errors
    assert not list(tmp_path.iterdir())
