import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from keras_retinaface.formats import torch_file

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata"


@pytest.mark.parametrize("name", ["tensors.pth", "tensors_old.pth"])
def test_both_formats_of_torch_give_the_numbers(name):
    arrays = torch_file.read(TESTDATA / name)  # the old one has `module.` before names, and an epoch beside
    numbers = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    wanted = {"weight": numbers, "view": numbers.transpose(2, 0, 1)[1:3], "parameter": numbers + 1}
    wanted |= {"half": numbers, "brain": numbers, "double": numbers, "count": np.array(7), "empty": np.zeros((0, 3))}
    assert set(arrays) == set(wanted)
    for key, array in wanted.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)


def test_a_zip_of_one_file_is_looked_into(tmp_path):
    path = tmp_path / "weights.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(TESTDATA / "tensors.pth", "weights.pth")
    assert len(torch_file.read(path)) == 8


@pytest.mark.parametrize("name", ["tensors.pth", "tensors_old.pth"])
def test_damage_is_one_line_that_names_the_file(tmp_path, name):
    content = (TESTDATA / name).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "broken.pth"
    damaged = [content[:cut] for cut in random.integers(0, len(content), 60)]
    for place in random.integers(0, len(content), 120):
        changed = bytearray(content)
        changed[place] ^= 1 << random.integers(8)
        damaged.append(bytes(changed))
    for content in damaged:
        path.write_bytes(content)
        try:
            torch_file.read(path)  # a flipped bit of a number, or of padding, is no damage that can be seen
        except ValueError as error:
            assert str(error).startswith(f"{path}: not a readable PyTorch file: ") and "\n" not in str(error)


class _Program:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("ran"),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_program_is_refused_by_name_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "program.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": _Program()}, protocol))
    with pytest.raises(
        ValueError, match="program.pth: not a readable PyTorch file: .*(Path|getattr|touch|instruction)"
    ):
        torch_file.read(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_state_dict_is_named(tmp_path):
    path = tmp_path / "other.pth"
    for content, text in (
        ({"epoch": 3}, "Received: 'epoch', int"),
        ([1, 2], "expected a state dict"),
        ({}, "expected"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content, 2))
        with pytest.raises(ValueError, match=text):
            torch_file.read(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="not a readable PyTorch file"):
        torch_file.read(path)
    with pytest.raises(FileNotFoundError):
        torch_file.read(tmp_path / "none.pth")
