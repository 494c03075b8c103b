import io

import h5py
import numpy as np
import pytest

from keras_retinaface.formats import hdf5_file


def _bytes(write, **options):
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as root:
        write(root)
    return file.getvalue()


def test_reads_what_keras_writes():
    # Two hundred layers take a tree of more than one table, and five axes a second block of the header.
    rng = np.random.default_rng(0)
    arrays = {f"layers/conv2d_{i}/vars/0": rng.random((i % 3 + 1, 4)).astype(np.float32) for i in range(200)}
    arrays |= {"optimizer/vars/0": np.int64(5), "layers/a/vars/1": np.zeros((2, 0, 3, 1, 1), np.float16)}

    def write(root):
        for path, array in arrays.items():
            root.create_dataset(path, data=array)
            root[path].parent.attrs["name"] = "stage1" * 50

    found = hdf5_file.read(_bytes(write))
    assert found.keys() == arrays.keys()
    for path, array in arrays.items():
        assert found[path].dtype == array.dtype
        np.testing.assert_array_equal(found[path], array)


def _external(root):
    root.create_dataset("a", (4,), np.uint8, external=[("/etc/hostname", 0, 4)])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: root.__setitem__("a", h5py.ExternalLink("/etc/other.h5", "/a")), "'a' is a link|damaged|links"),
        (lambda root: root.__setitem__("a", h5py.SoftLink("/b")), "'a' is a link"),
        (_external, "links, compression or data of another file"),
        (lambda root: root.create_dataset("a", data=np.zeros(99), compression="gzip"), "links, compression or data"),
        (lambda root: root.create_dataset("a", data=np.zeros(99), chunks=(9,)), "not stored in one piece"),
        (lambda root: root.create_dataset("a", data="text"), "expected numbers. Received: HDF5 type"),
        (
            lambda root: root.create_dataset("a", data=np.zeros(2, [("x", "f4")])),
            "expected numbers. Received: HDF5 type",
        ),
        (lambda root: root.__setitem__("a/b", root), "is damaged"),
    ],
)
def test_what_is_no_plain_array_is_refused(write, message):
    with pytest.raises(ValueError, match=message):
        hdf5_file.read(_bytes(write))


def test_other_kinds_of_file_are_refused():
    content = _bytes(lambda root: root.create_dataset("a", data=np.zeros(3)))
    for other in (b"", content[:40], b"PK" + content, _bytes(lambda root: None, libver="latest")):
        with pytest.raises(ValueError):
            hdf5_file.read(other)


def test_one_array_in_many_places_takes_no_more_than_the_file():
    def write(root):
        root["a"] = np.zeros(1000)
        for index in range(200):
            root[f"b{index}"] = root["a"]

    with pytest.raises(ValueError, match="is damaged"):
        hdf5_file.read(_bytes(write))
