import json
import pathlib
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.inference import model_file, runtime
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import start
from keras_retinaface.weights import arrays
from tests import conftest

_CASES = conftest.ROOT / "tests" / "testdata" / "cases" / "model_file_runs_code"
_CONFIG = config_lib.Config().replace(pyramid_channels=8, box_weight=0.5)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = model_lib.RetinaFace(_CONFIG)
    rng = np.random.default_rng(0)
    for variable in arrays.names(model).values():
        variable.assign(rng.random(tuple(variable.shape)))
    # What a user trains: the file then holds an optimizer too.
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    model.save_weights(path.with_name("a.weights.h5"))
    return path


def _assert_same(found, model):
    expected = arrays.read(model)
    for name, value in arrays.read(found).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_reads_what_keras_writes(model, whole):
    loaded = runtime.load_keras(whole)
    assert isinstance(loaded, model_lib.RetinaFace) and loaded.config == _CONFIG and loaded.name == model.name
    _assert_same(loaded, model)
    _assert_same(keras.models.load_model(whole, compile=False), model)
    other = model_lib.RetinaFace(_CONFIG)
    start.initialise(other, str(whole.with_name("a.weights.h5")))
    _assert_same(other, model)


def _with_old_sections(saved):
    sections = saved["config"]["config"]
    del sections["format"]
    sections.update(training={"epochs": -1, "pace": 3}, augmentation={"zoom": 2}, detection={"max_faces": 9, "a": 1})


def test_an_older_file_may_say_anything_of_how_it_was_trained(model, whole, tmp_path, caplog):
    path = _changed(whole, tmp_path / "old.keras", _with_old_sections)
    loaded = runtime.load_keras(path)
    assert loaded.config == _CONFIG
    assert "'detection', 'augmentation.zoom', 'training.pace'" in caplog.text
    _assert_same(loaded, model)
    assert keras.models.load_model(path, compile=False).config == _CONFIG


def test_layers_of_every_kind_have_the_place_that_keras_gives_them(tmp_path):
    config = config_lib.Config().replace(
        use_shared_heads=True,
        pyramid_channels=8,
        strides=(8, 16, 32, 64),
        sizes=((16.0,), (64.0,), (256.0,), (512.0,)),
        frozen_stages=2,
    )
    model = model_lib.RetinaFace(config)
    start.freeze(model, config.training)
    rng = np.random.default_rng(0)
    for variable in arrays.names(model).values():
        variable.assign(rng.random(tuple(variable.shape)))
    model.save(tmp_path / "a.keras")
    _assert_same(model_file.load(tmp_path / "a.keras"), model)


def _changed(whole, path, change=None, **members):
    """Writes `whole` with a config that `change` changed and other members."""
    with zipfile.ZipFile(whole) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    saved = json.loads(content["config.json"])
    content["config.json"] = json.dumps(change(saved) or saved if change else saved).encode()
    content.update({name.replace("__", "/"): value for name, value in members.items()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            if value is not None:
                archive.writestr(name, value)
    return path


_LAMBDA = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
_LAYER = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"name": "a", "function": _LAMBDA, "arguments": {}},
    "registered_name": None,
}
_SEQUENTIAL = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {"name": "s", "layers": [_LAYER]},
    "registered_name": None,
}


def _inner(**fields):
    return lambda saved: saved["config"]["config"]["network"].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: _SEQUENTIAL, "it holds a Lambda, which is a program"),
        (lambda saved: {**_SEQUENTIAL, "config": {"layers": []}}, "expected a RetinaFace. Received: 'Sequential'"),
        (lambda saved: saved["config"].update(extra=_LAMBDA), "a RetinaFace saves `config` and `name`"),
        (lambda saved: saved.update(compile_config={"loss": _LAYER}), "it holds a Lambda, which is a program"),
        (lambda saved: saved.update(registered_name="other>RetinaFace"), "expected a RetinaFace"),
        (lambda saved: saved.update(module="os"), "expected a RetinaFace of keras_retinaface. Received: one of 'os'"),
        (lambda saved: saved.update(layers=[_SEQUENTIAL["config"]["name"]]), "a field that RetinaFace does not save"),
        (_inner(backbone=_LAMBDA), "`backbone` must be like 'mobilenet025'"),
        (_inner(depth=3), "unknown field `network.depth`"),
        (lambda saved: saved["config"]["config"].update(format=3), "`format` must be 1 to 2; a newer version"),
        (_inner(pyramid_channels=1 << 40), "its config asks for [0-9]+ bytes of weights at least"),
        (_inner(pyramid_channels=8.5), "`pyramid_channels` must be like '64'"),
        (_inner(negative_slope=float("nan")), "`negative_slope` must be a finite number"),
        (lambda saved: saved["config"]["config"]["anchors"].update(
            strides=[8 << i for i in range(20)], sizes=[[8.0]] * 20), "must have 8 levels"),
        (lambda saved: saved["config"].update(name="../a"), "`name` must be letters"),
        (lambda saved: [saved], "expected a RetinaFace"),
    ],
)  # fmt: skip
def test_a_config_is_ours_or_refused(whole, tmp_path, change, message):
    path = _changed(whole, tmp_path / "b.keras", change)
    with pytest.raises(ValueError, match=f"b.keras: not a readable .keras file: .*{message}"):
        runtime.load_keras(path)


def test_a_model_of_hdf5_is_refused_and_nothing_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for source in (_CASES / "h5_lambda.keras", str(_CASES / "h5_lambda.keras")):
        with pytest.raises(ValueError, match="h5_lambda.keras: not a readable .keras file: expected the zip archive"):
            runtime.load_keras(source)
    assert not list(pathlib.Path(tmp_path).iterdir()) and not capfd.readouterr().out


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"..__..__evil.py": b""}, "Received: '../../evil.py'"),
        ({"assets__a": b""}, "Received: 'assets/a'"),
        ({"metadata.json": None}, "metadata.json is missing"),
        ({"metadata.json": b" " * (2 << 20)}, "metadata.json is longer"),
        ({"config.json": b"{"}, "Expecting"),
        ({"config.json": b"[" * 100_000}, "recursion"),
        ({"model.weights.h5": b"\0" * (1 << 28)}, "claim to unpack"),
        ({"model.weights.h5": b"not HDF5" * 999}, "no HDF5 file as Keras writes it"),
    ],
)
def test_an_archive_holds_three_members_of_sane_size(whole, tmp_path, members, message):
    path = _changed(whole, tmp_path / "b.keras", **members)
    with pytest.raises(ValueError, match=f"b.keras: not a readable .keras file: .*{message}"):
        runtime.load_keras(path)


def test_weights_that_do_not_fit_are_named(model, whole, tmp_path):
    path = tmp_path / "b.weights.h5"
    path.write_bytes(whole.with_name("a.weights.h5").read_bytes())
    with h5py.File(path, "r+") as root:
        del root["layers/conv2d/vars/0"]
        root["layers/conv2d/vars/0"] = h5py.ExternalLink("/etc/other.h5", "/a")
    other = model_lib.RetinaFace(_CONFIG)
    before = arrays.read(other)
    with pytest.raises(ValueError, match="b.weights.h5: not a readable .weights.h5 file: "):
        start.initialise(other, str(path))
    path.write_bytes(whole.with_name("a.weights.h5").read_bytes())  # HDF5 has changed the folder's kind for the link
    with h5py.File(path, "r+") as root:
        del root["layers/conv2d/vars/0"]
        root["layers/other/vars/0"] = np.zeros(3)
    with pytest.raises(
        ValueError, match="b.weights.h5: does not fit the model: it holds 1 more weights, as layers/other"
    ):
        start.initialise(other, str(path))
    with h5py.File(path, "r+") as root:
        del root["layers/other/vars/0"]
    with pytest.raises(
        ValueError, match=r"b.weights.h5: does not fit the model: 1 weights missing \(first: \['stage1_0"
    ):
        start.initialise(other, str(path))
    for name, value in arrays.read(other).items():
        np.testing.assert_array_equal(value, before[name])
