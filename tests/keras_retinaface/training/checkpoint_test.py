import re

import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import checkpoint, optimizer

_VALUES = {"weight/a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/0000": np.int64(2**40)}
_SETTINGS = {"learning_rate": 0.01, "milestones": (0.5, 0.8)}


def _model():
    keras.utils.set_random_seed(0)
    model = model_lib.RetinaFace()
    model.compile(optimizer=optimizer.make_optimizer(config_lib.Training(), 100, model))
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_file_holds_everything_and_the_oldest_go(tmp_path):
    for step in (2, 4, 10, 9):
        checkpoint.write(tmp_path, step, _VALUES, _SETTINGS, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000009.npz", "step_00000010.npz"]
    latest = checkpoint.latest(tmp_path)
    assert latest.step == 10 and latest.settings == {"learning_rate": 0.01, "milestones": [0.5, 0.8]}
    assert latest.values.keys() == _VALUES.keys()
    for name, value in _VALUES.items():
        assert latest.values[name].dtype == value.dtype
        np.testing.assert_array_equal(latest.values[name], value)
    assert checkpoint.latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("fault", ["empty", "cut", "flipped"])
def test_a_damaged_file_gives_way_to_the_one_before(tmp_path, fault, caplog):
    for step in (2, 4):
        checkpoint.write(tmp_path, step, _VALUES, _SETTINGS, keep=3)
    path = tmp_path / "step_00000004.npz"
    content = bytearray(path.read_bytes())
    # The numbers 0..5 stand in the file as they are.
    content[content.index(_VALUES["weight/a/kernel"].tobytes()) + 5] ^= 1
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "flipped": content}[fault])
    assert checkpoint.latest(tmp_path).step == 2
    assert "step_00000004.npz: not a readable .npz file" in caplog.text and "falling back" in caplog.text
    # Put aside, so that it is not one of the three newest for ever.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000002.npz", "step_00000004.npz.damaged"]
    (tmp_path / "step_00000002.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="all of 1 checkpoints are damaged; --resume=false"):
        checkpoint.latest(tmp_path)


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    checkpoint.write(tmp_path, 2, _VALUES, _SETTINGS, keep=1)
    broken = {**_VALUES, "weight/b/bias": np.array([1.0, np.nan])}
    with pytest.raises(FloatingPointError, match="step 4: 1 of 3 variables are not finite, as weight/b/bias"):
        checkpoint.write(tmp_path, 4, broken, _SETTINGS, keep=1)
    assert checkpoint.latest(tmp_path).step == 2


def test_changed_settings_are_named(tmp_path):
    checkpoint.write(tmp_path, 2, _VALUES, _SETTINGS, keep=1)
    latest = checkpoint.latest(tmp_path)
    checkpoint.check_settings(latest, _SETTINGS)
    message = "(--init=None then, mobilenet025 now, --milestones=0.5,0.8 then, 0.5,0.9 now)"
    with pytest.raises(ValueError, match=re.escape(message)):
        checkpoint.check_settings(latest, {**_SETTINGS, "milestones": (0.5, 0.9), "init": "mobilenet025"})
    # A field that came later stood at its default.
    checkpoint.check_settings(latest, {**_SETTINGS, "assignment": "paper", "native_scale": (0.0, 0.0)})
    with pytest.raises(ValueError, match="--assignment=paper then, dynamic now"):
        checkpoint.check_settings(latest, {**_SETTINGS, "assignment": "dynamic"})


def test_a_training_is_restored_to_the_last_bit(tmp_path):
    model = _model()
    variables = checkpoint.variables(model)
    # Every number another, so that no two variables can change places.
    rng = np.random.default_rng(0)
    for variable in variables.values():
        variable.assign(rng.integers(0, 1000, tuple(variable.shape)))
    kinds = {name.split("/")[0] for name in variables}
    assert kinds == {"weight", "optimizer", "metric"}
    values = checkpoint.read(model)
    checkpoint.write(tmp_path, 7, values, {}, keep=1)
    other = _model()
    checkpoint.restore(other, checkpoint.latest(tmp_path))
    for name, value in checkpoint.read(other).items():
        np.testing.assert_array_equal(value, values[name], err_msg=name)
    other.reset_metrics()
    checkpoint.restore_metrics(other, checkpoint.latest(tmp_path))
    assert other.get_metrics_result().keys() == model.get_metrics_result().keys()
    for name, value in model.get_metrics_result().items():
        np.testing.assert_array_equal(other.get_metrics_result()[name], value, err_msg=name)


def test_a_checkpoint_of_another_network_changes_nothing(tmp_path):
    checkpoint.write(tmp_path, 2, _VALUES, {}, keep=1)
    model = _model()
    before = checkpoint.read(model)
    with pytest.raises(ValueError, match="step_00000002.npz: does not fit the model"):
        checkpoint.restore(model, checkpoint.latest(tmp_path))
    for name, value in checkpoint.read(model).items():
        np.testing.assert_array_equal(value, before[name])


def _settings(value):
    return {"step": np.int64(4), "settings": np.array(value), "weight/a": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    "arrays",
    [
        {"weight/a": np.zeros(3)},
        {**_settings("{}"), "step": np.array([4, 5])},
        {**_settings("{}"), "step": np.float32(4)},
        _settings("{"),
        _settings("[]"),
        _settings("[" * 100_000),
    ],
)
def test_a_file_that_is_no_checkpoint_gives_way_to_the_one_before(tmp_path, arrays):
    checkpoint.write(tmp_path, 2, _VALUES, _SETTINGS, keep=3)
    np.savez(tmp_path / "step_00000004.npz", **arrays)
    assert checkpoint.latest(tmp_path).step == 2


def test_text_is_no_weight(tmp_path):
    model = _model()
    values = {**checkpoint.read(model), "weight/class_P3/bias": np.array(["a", "b", "c", "d"])}
    with pytest.raises(ValueError, match="weight/class_P3/bias must hold numbers. Received: <U1"):
        checkpoint.restore(model, checkpoint.Checkpoint(tmp_path / "a.npz", 2, {}, values))
