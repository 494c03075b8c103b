import re
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from keras_retinaface.evaluation import mat_file, wider_face


def _save(path, variables, **options):
    scipy.io.savemat(path, variables, **options)
    return path


@pytest.mark.parametrize("is_compressed", [False, True])
def test_reads_what_scipy_writes(tmp_path, is_compressed):
    numbers = np.arange(6.0).reshape(2, 3)
    cells = np.empty((1, 3), object)
    cells[0] = [np.uint8([[7]]), "ä name", np.zeros((0, 4))]
    variables = {"numbers": numbers, "whole": np.int16([[1, -2]]), "cells": cells, "record": {"a": 1}}
    path = _save(tmp_path / "a.mat", variables, do_compression=is_compressed)
    found = mat_file.read(path, ["numbers", "whole", "cells", "missing"])
    assert sorted(found) == ["cells", "numbers", "whole"]
    np.testing.assert_array_equal(found["numbers"], numbers)
    assert found["whole"].dtype == np.int16 and found["whole"].tolist() == [[1, -2]]
    first, word, empty = found["cells"][0]
    assert first.tolist() == [[7]] and word.tolist() == ["ä name"] and empty.shape == (0, 4)
    with pytest.raises(ValueError, match=r"a.mat: expected a whole MATLAB 5 file. Received: an array of class 2"):
        mat_file.read(path, ["record"])


def test_sizes_are_believed_to_the_end_of_the_file_only(tmp_path):
    path = _save(tmp_path / "a.mat", {"x": np.ones((2, 2))})
    content = path.read_bytes()
    for start in range(128, len(content), 4):
        for word in (0xFFFFFFFF, 0x7FFFFFF8, 0x40000000):
            path.write_bytes(content[:start] + struct.pack("<I", word) + content[start + 4 :])
            try:
                found = mat_file.read(path, ["x"])
            except ValueError as error:
                assert "a.mat: expected a whole MATLAB 5 file. Received: " in str(error)
            else:  # a number, or a name, was changed
                assert found.get("x", np.ones((2, 2))).shape == (2, 2)


def test_compressed_data_may_not_blow_up(tmp_path):
    header = _save(tmp_path / "a.mat", {"x": 1}).read_bytes()[:128]
    packer, packed = zlib.compressobj(9), b""
    for _ in range(300):
        packed += packer.compress(bytes(1 << 20))
    packed += packer.flush()
    (tmp_path / "a.mat").write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(ValueError, match="a.mat: .*compressed data that is cut off, or too long"):
        mat_file.read(tmp_path / "a.mat", ["x"])


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"\0" * 200, b"\x89HDF\r\n\x1a\n" + b" " * 600])
def test_other_files(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match="a.mat: expected a whole MATLAB 5 file. Received: "):
        mat_file.read(tmp_path / "a.mat", ["x"])


def test_ground_truth_of_a_wrong_shape_is_named(tmp_path):
    for part in ("face", *wider_face.SUBSETS):
        _save(tmp_path / f"wider_{part}_val.mat", {"x": 1})
    path = tmp_path / "wider_face_val.mat"
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected cells of `event_list`")):
        wider_face.load_ground_truth(tmp_path)

    def cells(*values):
        held = np.empty((len(values), 1), object)
        held[:, 0] = values
        return held

    event = {
        "event_list": cells(".."),
        "file_list": cells(cells("../a")),
        "face_bbx_list": cells(cells(np.ones((1, 4)))),
    }
    _save(path, event)
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: expected a name inside the folder of images. Received: '..")
    ):
        wider_face.load_ground_truth(tmp_path)
