"""Damages model files byte by byte: what comes is a model that is whole, or an error of ours that names the file.

FUZZ_CASES=2000 in the environment is the long form.
"""

import io
import json
import os
import pathlib
import random
import shutil
import time
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.evaluation import runner
from keras_retinaface.formats import hdf5_file, npz_file, tflite_file
from keras_retinaface.inference import model_file, saved_model_file, tflite_check
from keras_retinaface.training import callbacks, checkpoint
from tests.fuzz import tiny_model

_CASES = int(os.environ.get("FUZZ_CASES", "60"))
_SLOWEST = 5.0
_VALUES = {f"weight/{index}/kernel": np.arange(12, dtype=np.float32).reshape(3, 4) + index for index in range(5)}


def damage(content: bytes, rng: random.Random) -> bytes:
    """Flips bits, overwrites, cuts off, takes out or puts in bytes."""
    changed = bytearray(content)
    kind = rng.random()
    place = rng.randrange(len(changed))
    if kind < 0.1:
        return bytes(changed[:place])
    if kind < 0.2:
        del changed[place : place + rng.randrange(1, 64)]
    elif kind < 0.25:
        changed[place:place] = rng.randbytes(rng.randrange(1, 64))
    else:
        for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
            place = rng.randrange(len(changed))
            # Where archives and tables end, as many faults are looked for as in all the rest.
            place = len(changed) - 1 - place % min(len(changed), 512) if rng.random() < 0.4 else place
            changed[place] ^= rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
    return bytes(changed)


@pytest.fixture
def cases(request, tmp_path, monkeypatch):
    """Calls a reader on every damaged version of a file, in a folder that nothing else may appear in."""
    monkeypatch.chdir(tmp_path)

    def run(content: bytes, name: str, read, is_whole=lambda found: True, num_cases: int = _CASES):
        rng, outcomes = random.Random(request.node.name), {"whole": 0, "refused": 0}
        for case in range(num_cases):
            path = pathlib.Path(name)
            damaged = damage(content, rng)
            path.write_bytes(damaged)
            start = time.monotonic()
            try:
                found = read(path)
            except ValueError as error:
                assert name in str(error) and "\n" not in str(error), f"case {case}: {error}"
                outcomes["refused"] += 1
            else:
                assert is_whole(found), f"case {case}: damage was not seen"
                outcomes["whole"] += 1
            assert time.monotonic() - start < _SLOWEST, f"case {case}"
            assert [path.name for path in tmp_path.iterdir()] == [name], f"case {case}"
        assert outcomes["refused"] > num_cases // 10, outcomes

    return run


def _are_values(found: dict) -> bool:
    return found.keys() == _VALUES.keys() and all(np.array_equal(found[name], _VALUES[name]) for name in _VALUES)


def test_npz(cases, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **_VALUES)
    cases((tmp_path / "a.npz").read_bytes(), "a.npz", npz_file.read, _are_values, 4 * _CASES)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    caplog.set_level("ERROR")  # a warning a case
    rng = random.Random(0)
    first = checkpoint.write(tmp_path, 2, _VALUES, {"rate": 0.1}, keep=5).read_bytes()
    second = checkpoint.write(tmp_path, 4, _VALUES, {"rate": 0.1}, keep=5).read_bytes()
    for case in range(2 * _CASES):
        (tmp_path / "step_00000002.npz").write_bytes(first)
        (tmp_path / "step_00000004.npz").write_bytes(damage(second, rng))
        latest = checkpoint.latest(tmp_path)
        assert latest.step in (2, 4) and latest.settings == {"rate": 0.1} and _are_values(latest.values), f"case {case}"


def test_hdf5(cases, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as root:
        for name, value in _VALUES.items():
            root[f"layers/{name}/vars/0"] = value
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").unlink()

    def read(path):
        try:
            return hdf5_file.read(path.read_bytes())
        except ValueError as error:  # a `.keras` file around it has checksums; alone it has no name
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from error

    cases(content, "a.h5", read, num_cases=2 * _CASES)


def test_keras(cases, tmp_path):
    h5py = pytest.importorskip("h5py")
    config = config_lib.Config()
    saved = {**model_file._CLASS, "module": "keras_retinaface", "config": {"config": config.to_dict(), "name": "a"}}
    weights = io.BytesIO()
    with h5py.File(weights, "w") as root:
        root["layers/conv2d/vars/0"] = np.ones(40_000, np.float32)
    members = {
        "config.json": json.dumps(saved).encode(),
        "metadata.json": b"{}",
        "model.weights.h5": weights.getvalue(),
    }
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        is_whole = lambda found: found[0] == config and np.all(found[2]["layers/conv2d/vars/0"] == 1)  # noqa: E731
        cases(whole.getvalue(), "a.keras", model_file._read, is_whole)


def test_saved_model(cases, tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda image: {
            "boxes": tf.zeros([tf.shape(image)[0], 2, 4]),
            "scores": tf.zeros([tf.shape(image)[0], 2]),
            "landmarks": tf.zeros([tf.shape(image)[0], 2, 5, 2]),
            "count": tf.zeros([tf.shape(image)[0]], tf.int32),
        },
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")],
    )
    signature = module.serve.get_concrete_function()
    tf.saved_model.save(module, str(tmp_path / "a"), signatures={"serving_default": signature})
    content = (tmp_path / "a" / "saved_model.pb").read_bytes()
    shutil.rmtree(tmp_path / "a")

    def read(path):
        try:
            return saved_model_file._check_graph(saved_model_file._parse(path))
        except ValueError as error:  # in a folder with checksums damage is seen before; alone it has no name
            raise ValueError(f"{path}: {error}") from error

    cases(content, "saved_model.pb", read)


def test_tflite_with_and_without_a_checksum(cases):
    content = tiny_model.tflite()
    # Damage in the place of the checksum alone leaves the rest as it was.
    cases(content, "a.tflite", lambda path: tflite_check.read(path), lambda _: False, _CASES)
    cases(tiny_model.tflite(is_sealed=False), "a.tflite", lambda path: tflite_check.read(path), num_cases=_CASES)
    cases(content, "a.tflite", tflite_file.read_metadata, num_cases=_CASES)


def test_history(cases):
    rows = "".join(f"{epoch},{1 / (epoch + 1)},{1e-07 * epoch},\n" for epoch in range(40))
    cases(f"epoch,loss,rate,hard\n{rows}".encode(), "history.csv", callbacks.read_history)


def test_settings(cases, tmp_path):
    settings = {"model": "mobilenet025", "score_threshold": 0.02, "scales": [500, 800]}

    def read(path):
        shutil.rmtree("out", ignore_errors=True)
        return runner._check_settings(path.with_name("out"), settings)

    (tmp_path / "a").mkdir()
    runner._check_settings(tmp_path / "a" / "out", settings)
    content = (tmp_path / "a" / "out.settings.json").read_bytes()
    shutil.rmtree(tmp_path / "a")
    cases(content, "out.settings.json", read)
