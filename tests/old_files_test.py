"""Files that earlier versions wrote still load and give the same faces.

`testdata/old_files_0.1.tar.xz` was written by version 0.1 before its modules moved into rooms: a `.keras` by each
stack, and by TensorFlow 2.15 a `.tflite`, a SavedModel and the workdir of a run of two steps. The weights are
`mobilenet025_fast` with eight bits of mantissa. `faces.json` is what it found on `tfjs_three_people.jpg`.
"""

import json
import shutil
import tarfile

import numpy as np
import pytest

from keras_retinaface import Config, RetinaFace
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from tests import conftest, forked


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(conftest.ROOT / "tests" / "testdata" / "old_files_0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def _assert_same_faces(found_by, old, kind="keras"):
    photo = image_file.read(conftest.ROOT / "examples" / "photos" / "tfjs_three_people.jpg")
    expected = json.loads((old / "base" / "faces.json").read_text())[kind]
    found = [face.to_dict() for face in found_by.detect(photo)]
    assert len(found) == len(expected) == 3
    for face, other in zip(found, expected):
        np.testing.assert_allclose(face["box"], other["box"], atol=0.5)
        np.testing.assert_allclose(face["landmarks"], other["landmarks"], atol=0.5)
        assert face["score"] == pytest.approx(other["score"], abs=1e-3)


@pytest.mark.parametrize("path", ["base/model.keras", "current/model.keras", "base/saved_model", "base/workdir"])
def test_models_load(old, path):
    _assert_same_faces(detector.Detector(str(old / path)), old)


def test_the_config_of_a_workdir_loads(old):
    text = (old / "base" / "workdir" / "config.json").read_text()
    assert json.loads(text)["detection"]["max_faces"] == 750 and "format" not in json.loads(text)
    config = Config.from_json(text)
    assert config.training.epochs == 1 and config.network.pyramid_channels == 32


def test_a_tflite_loads(old):
    _assert_same_faces(detector.Detector(str(old / "base" / "retinaface.tflite")), old, "tflite")


def test_a_run_goes_on(old, tmp_path):
    shutil.copytree(old / "base" / "workdir", tmp_path / "run")
    flags = [line for line in (tmp_path / "run" / "run.flags").read_text().split() if "--workdir" not in line]
    command = ["train_main.py", *flags, f"--workdir={tmp_path / 'run'}"]
    done = forked.run(*command, "--epochs=2")
    # More epochs are other settings; the same ones are all done.
    assert done.returncode == 1 and "--epochs=1 then, 2 now" in done.stderr
    done = forked.run(*command)
    assert done.returncode == 0 and "all 1 epochs are done" in done.stderr
    assert (tmp_path / "run" / "history.csv").read_text() == (old / "base/workdir/history.csv").read_text()


@pytest.mark.parametrize("name", ["mobilenet025_public", "mobilenet025_fast"])
def test_shipped_arrays_load(name):
    assert RetinaFace.from_preset(name).count_params() > 0
