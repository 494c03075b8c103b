import re
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_retinaface.media import film, video
from tests import conftest


@pytest.fixture(params=["h264", "mpeg4"])
def encoder(request, monkeypatch):
    """Both encoders; without PyAV the second is all there is."""
    if request.param == "mpeg4":
        monkeypatch.setattr(film, "has_h264", lambda: False)
    elif not film.has_h264():
        pytest.skip("pip install av")
    return request.param


def test_frames_come_back_in_order_and_colour(tmp_path, encoder):
    path = tmp_path / "clip.mp4"
    with video.Writer(path, 10.0) as writer:
        for level in (20, 120, 220):
            frame = np.zeros((64, 96, 3), np.uint8)
            frame[..., 0] = level  # red
            writer.write(frame)
    reader = video.Reader(str(path))
    frames = list(reader)
    assert (len(frames), reader.num_frames, reader.frame_rate) == (3, 3, 10.0)
    reds = [frame[..., 0].mean() for frame in frames]
    np.testing.assert_allclose(reds, (20, 120, 220), atol=12)
    assert max(frame[..., 2].mean() for frame in frames) < 30


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_film_so_far_stays(tmp_path, error, encoder):
    path = tmp_path / "clip.mp4"
    with pytest.raises(error), video.Writer(path, 10.0) as writer:
        for _ in range(5):
            writer.write(np.zeros((32, 32, 3), np.uint8))
        raise error
    assert len(list(video.Reader(str(path)))) == 5 and list(tmp_path.iterdir()) == [path]


def test_without_a_frame_there_is_no_film(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"an earlier one")
    with video.Writer(path, 10.0):
        pass
    with pytest.raises(ValueError, match=r"frames must be \(32, 32\). Received: \(16, 32\)"):
        with video.Writer(tmp_path / "other.mp4", 10.0) as writer:
            writer.write(np.zeros((32, 32, 3), np.uint8))
            writer.write(np.zeros((32, 16, 3), np.uint8))
    (tmp_path / "other.mp4").unlink()
    with pytest.raises(FileNotFoundError), video.Writer(tmp_path / "nowhere" / "clip.mp4", 10.0) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    assert path.read_bytes() == b"an earlier one" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_and_leaves_the_film_so_far(tmp_path, monkeypatch):
    free = iter([2**30] * 7 + [2**19] * 9)
    usage = type("Usage", (), {"free": property(lambda self: next(free))})()
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="No space left on device after 7 frames: .*clip.mp4"):
        with video.Writer(tmp_path / "clip.mp4", 10.0) as writer:
            for _ in range(9):
                writer.write(np.zeros((32, 32, 3), np.uint8))
    assert len(list(video.Reader(str(tmp_path / "clip.mp4")))) == 7


def test_a_film_that_lost_frames_on_the_way_to_the_disk_is_none(tmp_path):
    code = """
import resource, sys
import numpy as np
from keras_retinaface.media import film, video
from tests import conftest
resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))
rng = np.random.default_rng(0)
with video.Writer(sys.argv[1], 10.0) as writer:
    for _ in range(30):
        writer.write(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
"""
    path = tmp_path / "clip.mp4"
    child = subprocess.run([sys.executable, "-c", code, str(path)], cwd=conftest.ROOT, capture_output=True, text=True)
    assert re.search(r"OSError: .*only \d+ of \d+ frames could be written: ", child.stderr), child.stderr
    assert not list(tmp_path.iterdir())


# Phones hold the sensor's picture and a matrix that turns it, here in the box that heads the track.
_MATRICES = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


@pytest.mark.parametrize("degrees", _MATRICES)
def test_a_phone_film_is_upright(tmp_path, degrees):
    content = (conftest.ROOT / "tests/testdata/cases/video_not_turned/phone.mp4").read_bytes()
    plain = next(iter(video.Reader(_write_turned(tmp_path / "plain.mp4", content, 0))))
    turned = next(iter(video.Reader(_write_turned(tmp_path / "phone.mp4", content, degrees))))
    np.testing.assert_array_equal(turned, np.rot90(plain, -degrees // 90))


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile other.mp4\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "\n<?xml version='1.0'?><MPD></MPD>",
    ],
)
def test_a_list_of_other_files_is_no_film(tmp_path, text):
    with video.Writer(tmp_path / "other.mp4", 10.0) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "film.mp4").write_text(text)
    with pytest.raises(ValueError, match="film.mp4: expected a film. Received: a list that names other files"):
        video.Reader(str(tmp_path / "film.mp4"))


# Left and right exchanged first, then turned clockwise.
_MIRRORED = {(-1, 0, 0, 1): 0, (0, -1, -1, 0): 90, (1, 0, 0, -1): 180, (0, 1, 1, 0): 270}


@pytest.mark.parametrize("matrix", _MIRRORED)
def test_a_mirrored_film_is_mirrored_back(tmp_path, matrix):
    content = (conftest.ROOT / "tests/testdata/cases/video_not_turned/phone.mp4").read_bytes()
    plain = next(iter(video.Reader(_write_turned(tmp_path / "plain.mp4", content, 0))))
    shown = next(iter(video.Reader(_write_matrix(tmp_path / "phone.mp4", content, matrix))))
    # As ISO 14496-12 has it: what lies at (x, y) is shown at (ax + cy, bx + dy).
    a, b, c, d = matrix
    rows, columns = np.indices(plain.shape[:2])
    new_columns, new_rows = a * columns + c * rows, b * columns + d * rows
    expected = np.zeros_like(shown)
    expected[new_rows - new_rows.min(), new_columns - new_columns.min()] = plain
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(shown, np.rot90(plain[:, ::-1], -_MIRRORED[matrix] // 90))


def _write_turned(path, content, degrees):
    return _write_matrix(path, content, _MATRICES[degrees])


def _write_matrix(path, content, values):
    start = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in values)
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:start] + matrix + content[start + 36 :])
    return str(path)


@pytest.mark.parametrize("rate", [66.667, 211.222, 24000 / 1001, 7000.7, 65535.0, 0.31, 1 / 60])
def test_films_of_odd_rates_keep_their_duration(tmp_path, rate, encoder):
    with video.Writer(tmp_path / "clip.mp4", rate) as writer:
        for _ in range(6):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    reader = video.Reader(str(tmp_path / "clip.mp4"))
    num_frames = len(list(reader))
    assert num_frames == 6 or rate < 0.5
    assert num_frames / reader.frame_rate == pytest.approx(6 / rate, rel=1e-3)


def test_every_rate_has_a_near_one_that_can_be_written():
    for rate in np.geomspace(0.01, 65535, 5000):
        repeats, near = video.representable_rate(rate)
        assert near / repeats == pytest.approx(rate, rel=1e-3) and (repeats == 1 or rate < 0.5)
        digits = len(f"{near:.3f}".rstrip("0").split(".")[1])
        assert near * 10**digits <= 65535.001


def test_a_film_that_is_cut_off_says_so(tmp_path, caplog):
    content = (conftest.ROOT / "tests/testdata/cases/output_overwrites_input/clip.mp4").read_bytes()
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    reader = video.Reader(str(path))
    num_frames = len(list(reader))
    assert reader.num_frames == reader.num_read == num_frames and not video.is_cut_off(reader, "clip.mp4")
    reader.num_read = num_frames - 2
    assert video.is_cut_off(reader, "clip.mp4")
    assert f"clip.mp4: cut off or damaged: {num_frames} frames announced, {num_frames - 2} read" in caplog.text


def test_no_video_is_named(tmp_path):
    with pytest.raises(ValueError, match="missing.mp4: not a readable video or camera"):
        video.Reader(str(tmp_path / "missing.mp4"))
    # OpenCV ends the process on a name that is not UTF-8.
    with pytest.raises(ValueError, match="must be UTF-8; rename it"):
        video.Reader("\udcff.mp4")


def test_frames_are_fetched_ahead_in_order_and_errors_come_through():
    fetched = []

    def frames():
        for number in range(20):
            fetched.append(number)
            yield number
        raise OSError("torn")

    got = []
    with pytest.raises(OSError, match="torn"):
        for number in video.ahead(frames(), size=3):
            time.sleep(0.005)
            got.append((number, len(fetched)))
    assert [number for number, _ in got] == list(range(20))
    # While the tenth is worked on, more are there already, but never many.
    assert 1 < got[9][1] - 9 <= 6
    # Leaving early ends the thread.
    before = threading.active_count()
    for number in video.ahead(iter(range(1000))):
        if number == 2:
            break
    assert threading.active_count() == before


def test_calls_run_behind_in_order_and_errors_come_through():
    done = []
    with video.behind(lambda number: (time.sleep(0.002), done.append(number))) as submit:
        for number in range(30):
            submit(number)
    assert done == list(range(30))
    with pytest.raises(ZeroDivisionError), video.behind(lambda number: done.append(1 / number)) as submit:
        for number in (2, 0, 4, 5):
            submit(number)
            time.sleep(0.02)
    assert done[30:] == [0.5]
