import io
import struct
import zipfile

import numpy as np
import pytest

from keras_retinaface.formats import npz_file

_ARRAYS = {
    "kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "step": np.int64(7),
    "empty": np.zeros((0, 5), np.float16),
    "names": np.array(["a", "long name"]),
    "flags": np.array([True, False]),
}


def _bytes(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _zip(content, method=zipfile.ZIP_DEFLATED, name="a.npy"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def _npy(header, content=b"", version=b"\x01\x00"):
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


def test_reads_what_numpy_writes(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(_bytes(**_ARRAYS))
    found = npz_file.read(path)
    assert found.keys() == _ARRAYS.keys()
    for name, array in _ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(FileNotFoundError):
        npz_file.read(tmp_path / "b.npz")


class _Program:
    def __reduce__(self):
        return print, ("has run",)


def _hidden_entry(content):
    """Lets the comment of the first entry of the directory swallow the second."""
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    third = content.index(b"PK\x01\x02", second + 4)
    return content[: first + 32] + struct.pack("<H", third - second) + content[first + 34 :]


_GIGABYTES = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "File is not a zip file"),
        (_bytes(**_ARRAYS)[:-9], "File is not a zip file"),
        (_bytes(a=np.array([_Program()], object)), r"expected numbers or text. Received: '\|O'"),
        (_bytes(a=np.zeros(2, [("x", "f4")])), "`descr` of the header is damaged"),
        (_zip(_npy(_GIGABYTES, b"12345678")), r"expected \(1000000, 1000000\) of float64. Received: 8 bytes"),
        (
            _zip(_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1" * 9999 + ", }")),
            "`shape` of the header",
        ),
        (_zip(_npy("(" * 9000)), "`descr` of the header is damaged"),
        (_zip(b"\0" * (1 << 27), name="bomb.npy"), "bytes claim to unpack to 134217728"),
        (_zip(_npy(_GIGABYTES), zipfile.ZIP_LZMA), "packed in another way than models are"),
        (_zip(b"import os", name="run.py"), "run.py is no array"),
        (_hidden_entry(_bytes(a=_ARRAYS["step"], b=_ARRAYS["step"], c=_ARRAYS["step"])), "its directory is damaged"),
    ],
)
def test_all_else_is_one_error_that_names_the_file(tmp_path, content, message, capsys):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.npz: not a readable .npz file: .*{message}") as raised:
        npz_file.read(path)
    assert "\n" not in str(raised.value) and not capsys.readouterr().out
