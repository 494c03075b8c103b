import numpy as np
import pytest

from keras_retinaface.weights import imports


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.npy", "StanislasBertrand's, are not read"),
        ("a.pb", "of a SavedModel give the folder"),
        ("a.bin", r"'\.bin'$"),
    ],
)
def test_what_is_not_read_is_said(name, text):
    with pytest.raises(ValueError, match=text):
        imports.read(name)


def test_an_unknown_kind_of_file_is_named():
    with pytest.raises(ValueError, match=r"weights.bin: expected one of .*'\.npz'.* Received: '\.bin'"):
        imports.load(None, "weights.bin")


def test_names_of_no_known_network_are_told(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{"module.layer.weight": np.zeros(3), "module.fc.bias": np.zeros(1)})
    with pytest.raises(ValueError, match=r"a.npz: its names are those of no network .* 2 arrays, as \['fc.bias', 'lay"):
        imports.read(path)
    with pytest.raises(ValueError, match="`project` must be one of .*, or empty. Received: 'mine'"):
        imports.read(path, "mine")
    with pytest.raises(FileNotFoundError):
        imports.read(tmp_path / "none.npz")
