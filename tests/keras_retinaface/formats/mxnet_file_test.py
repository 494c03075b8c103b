"""`arrays.params` was written by MXNet 1.9.1, by `mxnet.nd.save` of what `test_arrays_of_mxnet` expects."""

import pathlib
import struct

import numpy as np
import pytest

from keras_retinaface.formats import mxnet_file

PARAMS = pathlib.Path(__file__).parents[2] / "testdata" / "arrays.params"


def test_arrays_of_mxnet():
    numbers = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    wanted = {
        "arg:conv0_weight": numbers,
        "aux:bn0_moving_var": numbers[0, 0].astype(np.float16),
        "arg:count": np.array([3, 4], np.int32),
        "arg:double": np.array([[0.5]]),
    }
    found = mxnet_file.read(PARAMS)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_the_two_older_forms(tmp_path):
    path, context = tmp_path / "old.params", struct.pack("<iii", 1, 0, 0)
    forms = {
        "axes first": struct.pack("<III", 2, 1, 2),
        "no storage": struct.pack("<IIqq", 0xF993FAC8, 2, 1, 2),
    }
    for name, shape in forms.items():
        array = shape + context + struct.pack("<ff", 1.5, -2)
        path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, len(name)) + name.encode())
        np.testing.assert_array_equal(mxnet_file.read(path)[name], [[1.5, -2]])


def test_damage_is_one_line_that_names_the_file(tmp_path):
    content, path = PARAMS.read_bytes(), tmp_path / "broken.params"
    random = np.random.default_rng(0)
    damaged = [content[:cut] for cut in range(len(content))] + [content + b"\0", b"", b"\0" * 40]
    for place in random.integers(0, len(content), 200):
        changed = bytearray(content)
        changed[place] ^= 1 << random.integers(8)
        damaged.append(bytes(changed))
    num_refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            mxnet_file.read(path)  # a flipped bit of a number, of a device or of a name is no damage that can be seen
        except ValueError as error:
            num_refused += 1
            assert str(error).startswith(f"{path}: not a readable .params file of MXNet: ") and "\n" not in str(error)
    assert num_refused > len(PARAMS.read_bytes())
    with pytest.raises(FileNotFoundError):
        mxnet_file.read(tmp_path / "none.params")
