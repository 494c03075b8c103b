import numpy as np
import pytest

from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays


def test_round_trip_and_same_bytes(tmp_path):
    model, other = model_lib.RetinaFace(), model_lib.RetinaFace()
    arrays.save(model, tmp_path / "a.npz")
    arrays.load(other, tmp_path / "a.npz")
    arrays.save(other, tmp_path / "b.npz")
    for first, second in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(first, second)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_names_are_unique():
    model = model_lib.RetinaFace()
    assert len(arrays.names(model)) == sum(len(layer.weights) for layer in model.layers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("stage1_0/kernel"), "1 weights missing .*stage1_0/kernel"),
        (lambda v: v.update(extra=np.zeros(3)), "1 unknown .*extra"),
        (lambda v: v.update({"class_P3/bias": np.zeros(5)}), r"class_P3/bias must have shape \(4,\). Received: \(5,\)"),
        (lambda v: v.update({"class_P3/bias": np.full(4, np.nan)}), "class_P3/bias holds numbers that are not finite"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(change, message):
    model = model_lib.RetinaFace()
    before = model.get_weights()
    values = {name: variable.numpy() + 1 for name, variable in arrays.names(model).items()}
    change(values)
    with pytest.raises(ValueError, match=message):
        arrays.assign(model, values, "file.npz")
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken.npz: not a readable .npz file"):
        arrays.load(None, path)
