"""kill -9 over all commands: started again, each ends as if nothing had been, and leaves nothing behind.

Every command is killed at KILL_MOMENTS moments (two here, twenty before a release), one run after another over the same
outputs, and then left alone. A training takes longer than the rest and joins in where there are ten moments or more;
what it needs of checkpoints, `survival_test` holds.
"""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_retinaface.evaluation import annotation
from keras_retinaface.media import video
from tests import conftest, train_runs

pytestmark = pytest.mark.slow

_NUM_MOMENTS = int(os.environ.get("KILL_MOMENTS", "2"))
_MANY = 10
_CASES = conftest.ROOT / "tests" / "testdata" / "cases"
# The rest of a run is imports, before anything is written.
_FIRST_SHARE = 0.3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder of photos with annotations, and a film."""
    folder = tmp_path_factory.mktemp("inputs")
    for index in range(40):
        (folder / f"{index:02d}.png").symlink_to(_CASES / "results_lost" / "a.png")
    rows = "".join(f"# {index:02d}.png\n58 47 94 122\n" for index in range(40))
    (folder / "label.txt").write_text(rows)
    points = "58,47,94,122,80,75,125,75,102,100,85,120,120,120"
    faces = "".join(f"{index:02d}.png,{points}\n" for index in range(40))
    (folder / "faces.csv").write_text(",".join(annotation.CSV_COLUMNS) + "\n" + faces)
    rng = np.random.default_rng(0)
    with video.Writer(folder / "film.mp4", 66.667) as writer:
        for _ in range(150):
            writer.write(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
    return folder


def _detect_images(inputs, model, folder):
    flags = (f"--json={folder}/faces.jsonl", f"--output={folder}/drawn", f"--crops={folder}/crops")
    return ("detect_main.py", f"--model={model}", f"--images={inputs}/*.png", *flags)


def _detect_film(inputs, model, folder):
    flags = (f"--json={folder}/faces.jsonl", f"--output={folder}/drawn")
    return ("detect_main.py", f"--model={model}", f"--video={inputs}/film.mp4", *flags)


def _evaluate(inputs, model, folder):
    flags = (f"--json={folder}/result.json", f"--predictions_out={folder}/out", f"--curves={folder}/curves")
    return ("evaluate_main.py", f"--model={model}", f"--images={inputs}", f"--landmarks={inputs}/faces.csv", *flags)


def _export(inputs, model, folder):
    # A SavedModel takes half a minute more a start; in short, atomic_test has its folder killed.
    kinds = ("--tflite", "--saved_model") if _NUM_MOMENTS >= _MANY else ("--tflite",)
    flags = (*kinds, f"--json={folder}/parity.json", "--image_size=96,128")
    return ("export_main.py", f"--output={folder}", f"--parity_images={inputs}/00.png", *flags)


def _build_tfrecords(inputs, model, folder):
    flags = (f"--annotations={inputs}/label.txt", f"--output={folder}/train", "--num_shards=20")
    return ("-m", "data_pipeline.build_tfrecords", f"--images={inputs}", *flags)


def _train(inputs, model, folder):
    images = train_runs.write_images(inputs / "train")
    return ("train_main.py", *train_runs.arguments(images, folder / "run", "--epochs=4", "--save_every=2"))


def _start(command, log):
    with open(log, "w") as file:
        return subprocess.Popen(
            [sys.executable, *command], cwd=conftest.ROOT, stdout=file, stderr=subprocess.STDOUT, env=_ENVIRONMENT
        )


_ENVIRONMENT = {**os.environ, "CI": "1"}


def _contents(folder):
    """Returns what must be the same in two runs, by path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == "history.csv":
            found[name] = train_runs.losses(path.parent)
        elif path.suffix == ".json" and path.parent == folder:
            numbers = json.loads(path.read_text())
            found[name] = {key: value for key, value in numbers.items() if key != "seconds_per_image"}
            found[name] = {
                key: {k: v for k, v in value.items() if k != "megabytes"} if isinstance(value, dict) else value
                for key, value in found[name].items()
            }
        elif "logs" not in name.split("/"):  # TensorBoard's, of every start
            # What TensorFlow and Keras pack differs from run to run in order and times.
            is_packed = "saved_model" in name or path.suffix in (".keras", ".npz", ".flags")
            found[name] = None if path.is_dir() or is_packed else path.read_bytes()
    return found


@pytest.mark.parametrize(
    "make",
    [
        _detect_images,
        _detect_film,
        _evaluate,
        pytest.param(_export, marks=pytest.mark.long),
        pytest.param(_build_tfrecords, marks=pytest.mark.long),
        _train,
    ],
)
def test_killed_and_started_again(make, inputs, request, tmp_path):
    if make is _train and _NUM_MOMENTS < _MANY:
        pytest.skip("KILL_MOMENTS=20 kills trainings too")
    model = request.getfixturevalue("light_model") if make in (_detect_images, _detect_film, _evaluate) else None
    folder, expected, log = tmp_path / "outputs", tmp_path / "undisturbed", tmp_path / "log"
    folder.mkdir()
    begin = time.monotonic()
    assert _start(make(inputs, model, folder), log).wait(timeout=600) == 0, log.read_text()
    seconds = time.monotonic() - begin
    shutil.move(folder, expected)
    folder.mkdir()
    num_killed = 0
    for share in np.linspace(_FIRST_SHARE, 1, _NUM_MOMENTS, endpoint=False):
        process = _start(make(inputs, model, folder), log)
        try:
            assert process.wait(timeout=share * seconds) == 0, log.read_text()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            num_killed += 1
    assert num_killed
    assert _start(make(inputs, model, folder), log).wait(timeout=600) == 0, log.read_text()
    ours, theirs = _contents(folder), _contents(expected)
    assert ours.keys() == theirs.keys()
    for name, content in theirs.items():
        if isinstance(content, dict) and name.endswith("history.csv"):
            for key, values in content.items():
                np.testing.assert_allclose(ours[name][key], values, rtol=1e-5, atol=1e-6, err_msg=key)
        else:
            assert ours[name] == content, name
