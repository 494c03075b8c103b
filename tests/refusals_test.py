"""What commands say before they start: outputs that are inputs, flags without an effect, places not to be written."""

import os
import shutil

import pytest

from tests import command_runs, conftest, forked

_MINI = conftest.ROOT / "tests" / "testdata" / "wider_face_mini"
_PHOTOS = conftest.ROOT / "examples" / "photos"


@pytest.fixture
def photos(tmp_path):
    """A folder of one photo with its annotation."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(_PHOTOS / "astronaut.png", folder)
    (folder / "label.txt").write_text("# astronaut.png\n176 70 95 117\n")
    return folder


def _check(script, runs):
    """Runs a script with sets of flags, each of which must end at once with one line that holds its message."""
    results = command_runs.run_in_turn(script, *runs)
    for (status, _, errors), (flags, message) in zip(results, runs.items()):
        assert status == 1 and errors.count("\n") == 1 and message in errors, (flags, errors)


def test_evaluate(tmp_path, photos):
    shutil.copytree(_MINI / "gt", tmp_path / "gt")
    shutil.copytree(_MINI / "pred", tmp_path / "pred")
    name = next((tmp_path / "pred").rglob("*.txt"))
    (tmp_path / "curves").mkdir()
    os.link(tmp_path / "gt" / "wider_face_val.mat", tmp_path / "curves" / "precision_recall.csv")
    (tmp_path / "empty.txt").touch()
    nobody = ("--model=mobilenet025", f"--images={photos}", f"--landmarks={tmp_path / 'empty.txt'}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    given = (f"--predictions={tmp_path / 'pred'}", f"--ground_truth={tmp_path / 'gt'}")
    mesh = ("--mesh", "--model=mobilenet025_dense", f"--images={photos}", f"--landmarks={photos / 'label.txt'}")
    dense = ("--dense=a.npz", "--meshes=b.npz")
    overwrites = " would overwrite what is read: "
    _check(
        "keras_retinaface.cli.evaluate",
        {
            (*given, f"--json={name}"): f"--json{overwrites}",
            (*given, f"--json={tmp_path}/pred/../gt/wider_face_val.mat"): f"--json{overwrites}",
            (*given, f"--curves={tmp_path / 'curves'}"): f"--curves{overwrites}",
            (*mesh, f"--json={photos / 'astronaut.png'}"): f"--json{overwrites}",
            (*given, f"--json={tmp_path}/no/a.json"): "no/a.json cannot be written: No such file or directory",
            (*given, f"--curves={name}/curves"): "curves cannot be written: Not a directory",
            (*given, f"--predictions_out={tmp_path / 'out'}"): "--predictions_out needs --model",
            (*given, "--flip"): "--flip needs --model",
            nobody: "empty.txt: expected at least one annotated image. Received: none",
            (*given, "--num_threads=2"): "--num_threads needs --model",
            (*given, "--mesh_min_face=4"): "--mesh_min_face needs --mesh",
            (*mesh, "--curves=c"): "--curves must stand without --mesh",
            (*mesh, "--fddb=f"): "--fddb must stand without --mesh",
            (*mesh, "--predictions_out=p"): "--predictions_out must stand without --mesh",
            (*mesh, "--compat=python"): "--compat must stand without --mesh",
            (*mesh, *dense): "--dense must stand without --mesh",
            (*dense, "--model=mobilenet025", "--images=x"): "--model needs --ground_truth, --landmarks or --fddb",
            (*dense, "--curves=c"): "--curves needs --ground_truth, --landmarks or --fddb",
        },
    )
    for path in ("c", "p"):
        assert not (conftest.ROOT / path).exists()
    assert {path: path.read_bytes() for path in before} == before


def test_export(tmp_path, photos):
    (tmp_path / "saved_model").mkdir()
    os.link(photos / "astronaut.png", tmp_path / "saved_model" / "photo.png")
    (tmp_path / "retinaface.tflite").symlink_to(photos / "astronaut.png")
    parity = (f"--output={tmp_path}", f"--parity_images={photos}")
    _check(
        "keras_retinaface.cli.export",
        {
            (*parity, "--saved_model"): "--output would overwrite what is read: ",
            (*parity, "--tflite"): "--output would overwrite what is read: ",
            (*parity, "--tflite", f"--json={photos}/astronaut.png"): "--json would overwrite what is read: ",
            (f"--output={photos}/label.txt/a", "--tflite"): "--output=",
            (*parity, "--tflite", f"--json={tmp_path}/no/a.json"): "cannot be written: No such file or directory",
            (*parity, "--tflite", "--float_layers=none"): "--float_layers needs --tflite or --onnx, and --quantize",
            (*parity, "--onnx", "--calibration_images=x"): "--calibration_images needs --tflite or --onnx, and --q",
            (*parity, "--saved_model", "--quantize=int8"): "--quantize needs --tflite",
            (*parity, "--saved_model", "--image_size=480,640"): "--image_size needs --tflite",
        },
    )
    assert (photos / "astronaut.png").read_bytes() == (_PHOTOS / "astronaut.png").read_bytes()


def test_train(tmp_path, photos):
    (tmp_path / "run").mkdir()
    os.link(photos / "label.txt", tmp_path / "run" / "history.csv")
    (tmp_path / "run" / "model.keras").write_bytes(b"weights")
    label = (f"--train_annotations={photos / 'label.txt'}", f"--train_images={photos}")
    free = f"--workdir={tmp_path / 'free'}"
    _check(
        "keras_retinaface.cli.train",
        {
            (*label, f"--workdir={tmp_path / 'run'}"): "--workdir would overwrite what is read: ",
            (
                "--train_images=synthetic:8",
                f"--workdir={tmp_path / 'run'}",
                f"--init={tmp_path / 'run'}",
            ): "model.keras",
            (*label, free, "--val_every=2"): "--val_every needs --val_ground_truth",
            (*label, free, "--worker_timeout=2"): "--worker_timeout needs --strategy=multi_worker or --data",
            (label[0], "--train_images=synthetic:8", free): "--train_annotations must stand without --train_images=syn",
        },
    )
    assert not (tmp_path / "free").exists() and (tmp_path / "run" / "model.keras").read_bytes() == b"weights"


def test_programs_of_the_pipeline(tmp_path, photos):
    start = f"{photos}/astronaut"
    os.link(photos / "astronaut.png", f"{start}-00000-of-00001.tfrecord")
    shutil.copy(photos / "astronaut.png", photos / "sample_001.png")
    named = (f"--images={photos}", f"--annotations={photos / 'label.txt'}")
    overwrites = "--output would overwrite what is read: "
    for name, flags, message in (
        ("build_tfrecords", (*named, f"--output={start}", "--num_shards=1"), overwrites),
        ("build_tfrecords", (*named, f"--output={photos}/label.txt/a"), "label.txt cannot be written: Not a directory"),
        ("view", (*named, f"--output={photos}"), overwrites),
        ("serve", ("--dispatcher=grpc://a:1", "--port=2"), "--port is that of the first server"),
    ):
        done = forked.run("-m", f"data_pipeline.{name}", *flags, "--verbosity=-1")
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr, (name, flags, done)
    assert (photos / "astronaut.png").read_bytes() == (_PHOTOS / "astronaut.png").read_bytes()
