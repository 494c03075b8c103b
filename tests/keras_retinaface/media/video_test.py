import threading
import time

import numpy as np
import pytest

from keras_retinaface.media import video


def test_frames_come_back_in_order_and_colour(tmp_path):
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


def test_a_failed_run_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), video.Writer(tmp_path / "clip.mp4", 10.0) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


def test_no_video_is_named(tmp_path):
    with pytest.raises(ValueError, match="missing.mp4: not a readable video or camera"):
        video.Reader(str(tmp_path / "missing.mp4"))


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
