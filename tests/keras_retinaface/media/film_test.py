import fractions

import numpy as np
import pytest

from keras_retinaface.media import video

av = pytest.importorskip("av", reason="pip install av")


def _make_film_with_sound(path, codec, seconds=2):
    """Writes a film of a moving bar with a tone."""
    rate, samples = fractions.Fraction(30000, 1001), 44100
    with av.open(str(path), "w") as made:
        pictures, sound = made.add_stream("mpeg4", rate=rate), made.add_stream(codec, rate=samples)
        pictures.width, pictures.height, pictures.pix_fmt, sound.codec_context.layout = 64, 48, "yuv420p", "mono"
        for index in range(int(seconds * rate)):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[:, index % 64] = 255
            made.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        made.mux(pictures.encode())
        tone = (np.sin(np.arange(seconds * samples) / 20) * 9000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        frame.sample_rate, frame.pts = samples, 0
        resampled = av.AudioResampler(sound.codec_context.format, "mono", samples, 1024).resample(frame)
        for part in resampled:
            made.mux(sound.encode(part))
        made.mux(sound.encode())


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("avi", "pcm_s16le")])
def test_a_film_is_h264_at_its_own_rate_with_its_sound(tmp_path, suffix, codec):
    source, path = tmp_path / f"source.{suffix}", tmp_path / "drawn.mp4"
    _make_film_with_sound(source, codec)
    reader = video.Reader(str(source))
    with video.Writer(path, reader.frame_rate, str(source)) as writer:
        for frame in reader:
            writer.write(frame)
    with av.open(str(path)) as film:
        pictures, sound = film.streams.video[0], film.streams.audio[0]
        assert (pictures.codec_context.name, pictures.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert pictures.average_rate == fractions.Fraction(30000, 1001) and pictures.frames == reader.num_read
        assert sound.codec_context.name == "aac"
        level = [np.abs(frame.to_ndarray()).max() for frame in film.decode(sound)]
        assert len(level) * 1024 / 44100 == pytest.approx(2, abs=0.1) and np.median(level) > 0.1
    # What a browser needs to begin before all is there stands before the pictures.
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_sound_ends_with_the_pictures_and_silent_films_stay_silent(tmp_path):
    _make_film_with_sound(tmp_path / "source.mp4", "aac")
    with video.Writer(tmp_path / "short.mp4", 30, str(tmp_path / "source.mp4")) as writer:
        for _ in range(15):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    with av.open(str(tmp_path / "short.mp4")) as film:
        assert film.duration / av.time_base == pytest.approx(0.5, abs=0.1) and len(film.streams.audio) == 1
    with video.Writer(tmp_path / "silent.mp4", 30, str(tmp_path / "nowhere.mp4")) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    with av.open(str(tmp_path / "silent.mp4")) as film:
        assert not film.streams.audio and film.streams.video[0].frames == 1


@pytest.mark.parametrize("size", [(33, 47), (32, 47), (1, 1)])
def test_odd_sides_lose_nothing(tmp_path, size):
    frame = np.full((*size, 3), (200, 40, 90), np.uint8)
    with video.Writer(tmp_path / "odd.mp4", 10) as writer:
        for _ in range(3):
            writer.write(frame)
    frames = list(video.Reader(str(tmp_path / "odd.mp4")))
    assert len(frames) == 3 and frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    np.testing.assert_allclose(frames[0][: size[0], : size[1]], frame, atol=12)
