import io
import struct
import zipfile

import pytest

from keras_retinaface.formats import archive

_CONTENT = {"config.json": b"{}", "weights/a.npy": bytes(range(256)) * 40}


def _zip(content=_CONTENT, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, value in content.items():
            written.writestr(name, value)
    return file.getvalue()


def _read(content):
    return dict(archive.members(io.BytesIO(content)))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_come_whole_and_in_order(method):
    assert list(archive.members(io.BytesIO(_zip(method=method)))) == list(_CONTENT.items())
    assert _read(_zip({})) == {}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_way_of_packing_is_refused(method):
    with pytest.raises(ValueError, match="config.json is encrypted or packed in another way"):
        _read(_zip(method=method))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for value in (b"one", b"two"):
            written.writestr("a", value)
    with pytest.raises(ValueError, match="a name stands twice in it, or it has too many: 2"):
        _read(file.getvalue())


def test_what_unpacks_to_far_more_than_its_size_is_refused_unread(monkeypatch):
    bomb = _zip({"a": b"\0" * (1 << 20)})
    assert len(_read(bomb)["a"]) == 1 << 20  # small enough to be taken whatever its growth
    monkeypatch.setattr(archive, "_ALWAYS_ALLOWED", 1000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match=f"{len(bomb)} bytes claim to unpack to 1048576"):
        _read(bomb)


def test_a_directory_that_hides_a_member_is_refused():
    """The end counts two members; with the sizes of a directory of one, zipfile shows one and says nothing."""
    content = _zip({"a": b"1", "b": b"2"}, zipfile.ZIP_STORED)
    end = content.rindex(b"PK\x05\x06")
    size, start = struct.unpack_from("<II", content, end + 12)
    cut = content[:start] + content[start : start + size // 2] + content[end:]
    place = cut.rindex(b"PK\x05\x06") + 12
    cut = cut[:place] + struct.pack("<I", size // 2) + cut[place + 4 :]
    with zipfile.ZipFile(io.BytesIO(cut)) as hidden:
        assert hidden.namelist() == ["a"]
    with pytest.raises(ValueError, match="its directory is damaged: 1 entries"):
        _read(cut)


def test_no_flipped_bit_gives_another_content():
    whole = _zip(method=zipfile.ZIP_STORED)
    refused = 0
    for place in range(0, len(whole), 29):
        damaged = whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
        try:
            found = _read(damaged)
        except archive.DAMAGE:
            refused += 1
            continue
        # What may change unseen is a name or a date; a content never does.
        assert list(found.values()) == list(_CONTENT.values())
    assert refused > len(whole) / 29 * 0.9
