import struct

import numpy as np
import pytest

from keras_retinaface.media import display_matrix


def _box(kind, content, is_long=False):
    if is_long:
        return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _track(handler, matrix, version=0):
    a, b, c, d = (round(value * 65536) for value in matrix)
    head = bytes([version]) + bytes(39 if version == 0 else 51) + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    media = _box(b"mdia", _box(b"mdhd", bytes(24)) + _box(b"hdlr", bytes(8) + handler + bytes(13)))
    return _box(b"trak", _box(b"tkhd", head + bytes(8)) + media)


_MIRRORED = (-1, 0, 0, 1)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("is_long", [False, True])
def test_the_video_track_counts(tmp_path, version, is_long):
    tracks = _track(b"soun", (1, 0, 0, 1)) + _track(b"vide", _MIRRORED, version) + _track(b"vide", (0, 1, -1, 0))
    content = _box(b"ftyp", b"isom") + _box(b"mdat", bytes(99), is_long) + _box(b"moov", tracks, is_long)
    (tmp_path / "a.mp4").write_bytes(content)
    matrix = display_matrix.read(tmp_path / "a.mp4")
    assert matrix == _MIRRORED and display_matrix.is_mirrored(matrix)
    for cut in range(0, len(content), 7):
        (tmp_path / "a.mp4").write_bytes(content[:cut])
        assert display_matrix.read(tmp_path / "a.mp4") in (None, _MIRRORED)


@pytest.mark.parametrize("matrix", [(0.7, 0.7, -0.7, 0.7), (2, 0, 0, 1), (0, 0, 0, 0), (1, 1, -1, 1)])
def test_other_angles_and_scales_are_none(tmp_path, matrix):
    (tmp_path / "a.mov").write_bytes(_box(b"moov", _track(b"vide", matrix)))
    assert display_matrix.read(tmp_path / "a.mov") is None


_EMPTY_HEADER = _box(b"moov", _box(b"trak", _box(b"tkhd", b"")))


def test_files_of_other_kinds_have_none(tmp_path):
    for content in (b"", b"RIFF", bytes(5000), _box(b"moov", b"") * 3, b"\0\0\0\1moov" + b"\xff" * 8, _EMPTY_HEADER):
        (tmp_path / "a").write_bytes(content)
        assert display_matrix.read(tmp_path / "a") is None
    assert display_matrix.read(tmp_path / "absent") is None


def test_showing_follows_the_matrix():
    frame = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(display_matrix.show(frame, (1, 0, 0, 1)), frame)
    np.testing.assert_array_equal(display_matrix.show(frame, (0, 1, -1, 0)), np.rot90(frame, -1))
    np.testing.assert_array_equal(display_matrix.show(frame, _MIRRORED), frame[:, ::-1])
