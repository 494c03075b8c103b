import fractions

import numpy as np
import pytest

from keras_retinaface.media import film, video

av = pytest.importorskip("av", reason="pip install av")


def _make_film_with_sound(path, codec, seconds=2, start=0, samples=44100):
    """Writes a film of a moving bar with a tone in its second half, its first time that of `start` in seconds."""
    rate = fractions.Fraction(30000, 1001)
    with av.open(str(path), "w") as made:
        pictures, sound = made.add_stream("mpeg4", rate=rate), made.add_stream(codec, rate=samples)
        pictures.width, pictures.height, pictures.pix_fmt, sound.codec_context.layout = 64, 48, "yuv420p", "mono"
        for index in range(int(seconds * rate)):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[:, index % 64] = 255
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = index + round(start * rate), 1 / rate
            made.mux(pictures.encode(picture))
        made.mux(pictures.encode())
        times = np.arange(seconds * samples)
        tone = (np.sin(times / 20) * (times >= times.size / 2) * 9000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = samples, start * samples, fractions.Fraction(1, samples)
        resampled = av.AudioResampler(sound.codec_context.format, "mono", samples, 1024).resample(frame)
        for part in resampled:
            made.mux(sound.encode(part))
        made.mux(sound.encode())


def _write_black(path, source, num_frames=50):
    with video.Writer(path, 30000 / 1001, str(source)) as writer:
        for _ in range(num_frames):
            writer.write(np.zeros((32, 32, 3), np.uint8))


def _sound(path):
    """Returns the samples of a film's sound and when each is heard, seconds from the first picture."""
    with av.open(str(path)) as made:
        first = made.streams.video[0].start_time * made.streams.video[0].time_base
        parts = [(frame.time - first, frame.to_ndarray()[0]) for frame in made.decode(made.streams.audio[0])]
        rate = made.streams.audio[0].codec_context.sample_rate
    times = [float(time) + np.arange(part.size) / rate for time, part in parts]
    return np.concatenate([part for _, part in parts]), np.concatenate(times)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("avi", "pcm_s16le"), ("avi", "libmp3lame")])
def test_a_film_is_h264_at_its_own_rate_with_its_sound(tmp_path, suffix, codec):
    source, path = tmp_path / f"source.{suffix}", tmp_path / "drawn.mp4"
    _make_film_with_sound(source, codec)
    reader = video.Reader(str(source))
    with video.Writer(path, reader.frame_rate, str(source)) as writer:
        for frame in reader:
            writer.write(frame)
    with av.open(str(path)) as made:
        pictures, sound = made.streams.video[0], made.streams.audio[0]
        assert (pictures.codec_context.name, pictures.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert pictures.average_rate == fractions.Fraction(30000, 1001) and pictures.frames == reader.num_read
        assert sound.codec_context.name == "aac"
    level, times = _sound(path)
    assert level.size / 44100 == pytest.approx(2, abs=0.1) and np.abs(level[times > 1.1]).max() > 0.2
    assert times[np.abs(level) > 0.1][0] == pytest.approx(1, abs=0.03)
    assert times[np.abs(level) > 0.1][0] == pytest.approx(1, abs=0.03)
    # What a browser needs to begin before all is there stands before the pictures.
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_sound_ends_with_the_pictures_and_silent_films_stay_silent(tmp_path):
    _make_film_with_sound(tmp_path / "source.mp4", "aac")
    with video.Writer(tmp_path / "short.mp4", 30, str(tmp_path / "source.mp4")) as writer:
        for _ in range(15):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    with av.open(str(tmp_path / "short.mp4")) as made:
        assert made.duration / av.time_base == pytest.approx(0.5, abs=0.1) and len(made.streams.audio) == 1
    with video.Writer(tmp_path / "silent.mp4", 30, str(tmp_path / "nowhere.mp4")) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    with av.open(str(tmp_path / "silent.mp4")) as made:
        assert not made.streams.audio and made.streams.video[0].frames == 1


@pytest.mark.parametrize("start", [0, 10])
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("ts", "aac"), ("mkv", "aac"), ("mkv", "flac")])
def test_sound_is_heard_with_its_picture_whenever_the_film_begins(tmp_path, suffix, codec, start):
    _make_film_with_sound(tmp_path / f"source.{suffix}", codec, start=start)
    _write_black(tmp_path / "drawn.mp4", tmp_path / f"source.{suffix}")
    level, times = _sound(tmp_path / "drawn.mp4")
    assert times[0] == pytest.approx(0, abs=0.05) and times[np.abs(level) > 0.1][0] == pytest.approx(1, abs=0.03)


def _expect_pictures_and_one_warning(path, caplog, text):
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1 and text in warnings[0] and "\n" not in warnings[0]
    assert len(list(video.Reader(str(path)))) == 50


def test_sound_whose_time_jumps_back_ends_there(tmp_path, caplog):
    _make_film_with_sound(tmp_path / "half.ts", "aac", seconds=1)
    (tmp_path / "source.ts").write_bytes((tmp_path / "half.ts").read_bytes() * 2)
    _write_black(tmp_path / "drawn.mp4", tmp_path / "source.ts")
    _expect_pictures_and_one_warning(tmp_path / "drawn.mp4", caplog, "source.ts: the sound is left out from 1.0 s on: ")
    assert _sound(tmp_path / "drawn.mp4")[1][-1] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("samples", "codec"),
    [(192000, b"A_PCM/INT/LIT"), (44100, b"A_NONE/SUCH/X")],  # a rate that AAC does not know; no decoder
)
def test_pictures_alone_are_a_film_where_the_sound_cannot_be_kept(tmp_path, caplog, samples, codec):
    source = tmp_path / "source.mkv"
    _make_film_with_sound(source, "pcm_s16le", samples=samples)
    source.write_bytes(source.read_bytes().replace(b"A_PCM/INT/LIT", codec))
    _write_black(tmp_path / "drawn.mp4", source)
    _expect_pictures_and_one_warning(tmp_path / "drawn.mp4", caplog, "source.mkv: the sound is left out: ")
    with av.open(str(tmp_path / "drawn.mp4")) as made:
        assert not made.streams.audio


def test_a_frame_that_was_encoded_before_its_writing_failed_costs_nothing(tmp_path, monkeypatch):
    def fail(self, end):
        if self._num_written == 5:
            raise RuntimeError("torn")

    monkeypatch.setattr(film.H264, "_mux_sound", fail)
    with pytest.raises(OSError, match="frame 4 cannot be written: torn"):
        _write_black(tmp_path / "drawn.mp4", "")
    assert len(list(video.Reader(str(tmp_path / "drawn.mp4")))) == 5


@pytest.mark.parametrize("size", [(33, 47), (32, 47), (1, 1)])
def test_odd_sides_lose_nothing(tmp_path, size):
    frame = np.full((*size, 3), (200, 40, 90), np.uint8)
    with video.Writer(tmp_path / "odd.mp4", 10) as writer:
        for _ in range(3):
            writer.write(frame)
    frames = list(video.Reader(str(tmp_path / "odd.mp4")))
    assert len(frames) == 3 and frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    np.testing.assert_allclose(frames[0][: size[0], : size[1]], frame, atol=12)
