import io
import tarfile

import pytest

from keras_retinaface.bulk import source
from tests import http_server

_CONTENTS = {f"{index:03d}.png": bytes([index]) * (index + 1) for index in range(150)}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_tar_shards(tmp_path, suffix):
    path = tmp_path / f"shard-000{suffix}"
    with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as archive:
        for name, content in {**_CONTENTS, "000.json": b"{}"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    entries, reader = list(source.find(f"{tmp_path}/shard-*{suffix}")), source.Reader()
    assert [entry.path for entry in entries] == [f"{path}#{name}" for name in _CONTENTS]
    assert [reader.read(entry) for entry in entries] == list(_CONTENTS.values())


@pytest.mark.parametrize("is_struct", [False, True])
def test_parquet_with_bytes(tmp_path, is_struct):
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        pytest.skip(f"no usable pyarrow: {error}")
    values = [{"bytes": content} for content in _CONTENTS.values()] if is_struct else list(_CONTENTS.values())
    table = pa.table({"image": values} if is_struct else {"path": list(_CONTENTS), "image": values})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=70)
    entries, reader = list(source.find(str(tmp_path / "a.parquet"))), source.Reader()
    names = [f"{tmp_path}/a.parquet#{row}" for row in range(150)] if is_struct else list(_CONTENTS)
    assert [entry.path for entry in entries] == names
    assert [reader.read(entry) for entry in entries] == list(_CONTENTS.values())
    assert reader.read(entries[149]) == _CONTENTS["149.png"] and reader.read(entries[0]) == _CONTENTS["000.png"]
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet: expected a column of bytes. Received: text"):
        list(source.find(str(tmp_path / "b.parquet")))


def test_folders_lists_and_addresses(tmp_path):
    for name, content in _CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "list.txt").write_text(f"\ufeff{tmp_path}/001.png\n\nfile://{tmp_path}/002.png\n", encoding="utf-8")
    assert [entry.path for entry in source.find(str(tmp_path))] == [str(tmp_path / name) for name in _CONTENTS]
    assert [entry.path for entry in source.find(f"{tmp_path}/00*.png")] == [f"{tmp_path}/00{n}.png" for n in range(10)]
    listed = list(source.find(f"{tmp_path}/list.txt"))
    assert [entry.path for entry in listed] == [f"{tmp_path}/001.png", f"file://{tmp_path}/002.png"]
    pytest.importorskip("fsspec")
    assert source.Reader().read(listed[1]) == _CONTENTS["002.png"]
    assert len(list(source.find(f"file://{tmp_path}"))) == len(list(source.find(f"file://{tmp_path}/*.png"))) == 150


@pytest.mark.parametrize("has_ranges", [True, False])
def test_http(tmp_path, has_ranges):
    pytest.importorskip("aiohttp")
    for name in ("000.png", "149.png"):
        (tmp_path / name).write_bytes(_CONTENTS[name])
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("000.png", "149.png"):
            archive.add(tmp_path / name, name)
    with http_server.serve(tmp_path, has_ranges=has_ranges) as address:
        (tmp_path / "list.txt").write_text(f"{address}/149.png\n{address}/gone.png\n{address}/fails.png\n")
        listed, reader = list(source.find(f"{address}/list.txt")), source.Reader()
        assert [entry.path for entry in source.find(f"{address}/*.png")] == [f"{address}/000.png", f"{address}/149.png"]
        assert reader.read(listed[0]) == _CONTENTS["149.png"]
        with pytest.raises(FileNotFoundError, match="^no such file$"):
            reader.read(listed[1])
        with pytest.raises(Exception, match="500"):
            reader.read(listed[2])
        (place,) = [entry.place for entry in source.find(f"{tmp_path}/shard.tar") if entry.path.endswith("149.png")]
        entry = source.Entry("149.png", f"{address}/shard.tar", place, 150)
        assert reader.read(entry) == _CONTENTS["149.png"]
        if has_ranges:  # without them a tar file cannot be listed
            assert list(source.find(f"{address}/shard.tar"))[1].place == place
        with pytest.raises(ValueError, match="--input=http:.*/gone.tar: cannot be read: .*404"):
            list(source.find(f"{address}/gone.tar"))
        with pytest.raises(ValueError, match="--input=http:.*/fails.txt: cannot be read: ClientResponseError: 500"):
            list(source.find(f"{address}/fails.txt"))
    with pytest.raises(ValueError, match="--input=http:.*: cannot be read: "):  # nobody listens any more
        list(source.find(f"{address}/list.txt"))
    with pytest.raises(ValueError, match="^nowhere://a: .*nowhere"):
        list(source.find("nowhere://a"))


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar")
    with pytest.raises(ValueError, match="--input=.*a.tar: cannot be read: "):
        list(source.find(f"{tmp_path}/a.tar"))
    with pytest.raises(ValueError, match="--input=.*gone.txt: cannot be read: "):
        list(source.find(f"{tmp_path}/gone.txt"))
