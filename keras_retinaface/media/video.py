"""Frames of a video file or camera in and out, RGB, beside other work. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import pathlib
import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from absl import logging

from keras_retinaface import atomic
from keras_retinaface.media import display_matrix, film

# For cameras and files that do not say how fast they run.
_FALLBACK_RATE = 25.0
# Playing lists, whose entries FFmpeg would open, whatever a file is called: HLS, concat, SDP, DASH.
_LISTS, _LONGEST_MARK = (b"#EXTM3U", b"ffconcat", b"v=0", b"<"), 64
# Frames that wait between two threads: enough to even out, few enough for 4K.
_QUEUE_SIZE = 4
# What a phone says of how it was held: degrees clockwise to upright.
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
# MPEG-4 counts time in parts of a second, so many at most, and OpenCV makes them of a rate with three digits behind the
# point at most: under the least rate those are no longer exact to a thousandth.
_MOST_TICKS, _LEAST_RATE = 65535, 0.5
# Frames that a whole film may lack of those that its header lets expect.
_MOST_MISSING, _MOST_MISSING_SHARE = 1, 0.005
# What must be free on the disk beside the next frame, so that the film so far can still be closed, bytes.
_RESERVE = 2**20


class Reader:
    """The frames of a video, upright: turned and mirrored as the file says that they are to be shown.

    Args:
        source: path of a file, or the number of a camera.

    Attributes:
        frame_rate: frames a second.
        num_frames: frames of a file as its header says, or None where it does not.
        num_read: frames read so far.

    Raises:
        ValueError: if it cannot be opened.
    """

    def __init__(self, source: str):
        try:
            self._capture = cv2.VideoCapture(int(source) if is_camera(source) else _check_name(source))
        except (cv2.error, OverflowError) as error:
            raise ValueError(f"{source}: not a readable video or camera: {error}") from error
        if not self._capture.isOpened():
            raise ValueError(f"{source}: not a readable video or camera")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = rate if math.isfinite(rate) and rate > 0 else _FALLBACK_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.num_frames = int(count) if not is_camera(source) and math.isfinite(count) and count > 0 else None
        self.num_read = 0
        # By default some builds of OpenCV turn frames by themselves and some do not.
        self._turn = self._matrix = None
        if self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0):
            matrix = None if is_camera(source) else display_matrix.read(source)
            # Of turns alone OpenCV knows in more formats.
            self._matrix = matrix if matrix is not None and display_matrix.is_mirrored(matrix) else None
            self._turn = _TURNS.get(round(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields frames, uint8 `[H, W, 3]`, RGB, until there are no more."""
        try:
            while True:
                is_read, frame = self._capture.read()
                if not is_read:
                    return
                self.num_read += 1
                if self._matrix is not None:
                    frame = display_matrix.show(frame, self._matrix)
                elif self._turn is not None:
                    frame = cv2.rotate(frame, self._turn)
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # a hundredth of the time that NumPy's reversal takes
        finally:
            self._capture.release()


def is_camera(source: str) -> bool:
    """Returns whether a source is the number of a camera."""
    return source.isascii() and source.isdigit()


def _check_name(path: str) -> str:
    """Returns a path that OpenCV can take: its process ends where it cannot."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{path}: the names of a video and its folders must be UTF-8; rename it") from None
    if "\0" in path:
        raise ValueError(f"the name of a video must not hold a zero byte. Received: {path!r}")
    if os.path.isfile(path):
        with open(path, "rb") as file:
            start = file.read(_LONGEST_MARK).lstrip(b"\xef\xbb\xbf \t\r\n")
        if start.startswith(_LISTS):
            raise ValueError(f"{path}: expected a film. Received: a list that names other files")
    return path


def is_cut_off(reader: Reader, source: str) -> bool:
    """Says where a film that was read to its end had fewer frames than its header announces.

    Args:
        reader: reader of the film, at its end.
        source: source of the film.

    Returns:
        Whether so many are missing that the film is cut off or damaged: containers that do not count frames announce
        what their duration makes likely.
    """
    num_missing = (reader.num_frames or 0) - reader.num_read
    if num_missing <= 0:
        return False
    logging.error("%s: cut off or damaged: %d frames announced, %d read", source, reader.num_frames, reader.num_read)
    return num_missing > max(_MOST_MISSING, _MOST_MISSING_SHARE * reader.num_frames)


def ahead(items: Iterable, size: int = _QUEUE_SIZE) -> Iterator:
    """Yields items that a thread of its own fetches a few ahead, so that decoding runs beside detecting.

    Args:
        items: things of any kind; an error while they are fetched is raised here.
        size: most items that wait.
    """
    waiting: queue.Queue = queue.Queue(size)
    is_left = threading.Event()

    def put(entry) -> None:
        while not is_left.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(entry, timeout=0.1)
                return

    def fetch() -> None:
        try:
            for item in items:
                put((item, None))
                if is_left.is_set():
                    return
            put((None, StopIteration()))
        except Exception as error:
            put((None, error))

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        is_left.set()
        thread.join()


@contextlib.contextmanager
def behind(function: Callable, size: int = _QUEUE_SIZE) -> Iterator[Callable]:
    """Yields a function that hands its arguments to a thread, which calls `function` in order.

    Leaving waits until all calls are done; an error of one is raised at the next call or at the end.

    Args:
        function: called in the thread.
        size: most calls that wait.
    """
    waiting: queue.Queue = queue.Queue(size)
    errors: list[Exception] = []

    def work() -> None:
        while (arguments := waiting.get()) is not None:
            if not errors:  # after an error the queue is only emptied, so that nobody waits for a place in it
                try:
                    function(*arguments)
                except Exception as error:
                    errors.append(error)

    def submit(*arguments) -> None:
        if errors:
            raise errors[0]
        waiting.put(arguments)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield submit
    finally:
        waiting.put(None)
        thread.join()
    if errors:
        raise errors[0]


class Writer:
    """Writes an MP4 file, H.264 where PyAV is installed; it gets its name when it is closed.

    What was written before an error, or Ctrl-C, is a film too and stays; without a frame there is no file.

    Args:
        path: path of the `.mp4`.
        frame_rate: frames a second.
        sound: path of the film whose sound is kept, with H.264; None: none.
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float, sound: str | None = None):
        self._path, self._sound = pathlib.Path(path), sound
        self._repeats, self._frame_rate = (1, frame_rate) if film.has_h264() else representable_rate(frame_rate)
        self._writer, self._partial, self._num_written, self._size = None, None, 0, None
        self._stack = contextlib.ExitStack()

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame.

        Args:
            frame: uint8 `[H, W, 3]`, RGB; all of one size.

        Raises:
            ValueError: if the frame has another size than those before, or no such film can be made.
            OSError: if the disk is full or the folder cannot be written.
        """
        if self._writer is None:
            self._open((frame.shape[1], frame.shape[0]))
        if self._size != (frame.shape[1], frame.shape[0]):
            raise ValueError(f"{self._path}: frames must be {self._size}. Received: {frame.shape[1::-1]}")
        # OpenCV does not say when a disk is full.
        if shutil.disk_usage(self._partial.parent).free < frame.nbytes + _RESERVE:
            raise OSError(
                errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} after {self._num_written} frames", str(self._path)
            )
        try:
            for _ in range(self._repeats):
                self._writer.write(frame)
                self._num_written += 1
        except Exception as error:  # encoders raise errors of many kinds
            raise OSError(
                errno.EIO, f"frame {self._num_written} cannot be written: {error}", str(self._path)
            ) from error

    def _open(self, size: tuple[int, int]) -> None:
        self._partial = self._stack.enter_context(atomic.file(self._path))
        with open(self._partial, "wb"):  # says why not, which OpenCV does not
            pass
        self._size = size
        try:
            self._writer = film.open_encoder(_check_name(str(self._partial)), self._frame_rate, size, self._sound)
        except ValueError as error:
            raise ValueError(f"{self._path}: cannot write a video of {size[0]} x {size[1]} there: {error}") from error

    def _close(self) -> None:
        """Closes the film and looks whether it is one."""
        if self._writer is not None:
            with contextlib.suppress(Exception):  # what came of it is counted
                self._writer.close()
        if not self._num_written:
            if self._partial is not None:
                self._partial.unlink(missing_ok=True)
            return
        capture = cv2.VideoCapture(str(self._partial))
        count = round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if count < self._num_written:  # more where a frame was encoded before its writing failed
            raise OSError(errno.EIO, f"only {count} of {self._num_written} frames could be written", str(self._path))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        # Without a frame the file is gone, and cannot get its name.
        with contextlib.suppress(FileNotFoundError), self._stack:
            self._close()


def representable_rate(frame_rate: float) -> tuple[int, float]:
    """Returns what comes nearest to a frame rate among those that MPEG-4 can be written with, within a thousandth.

    Args:
        frame_rate: frames a second, positive.

    Returns:
        How often each frame is written, which is more than once only for less than one frame in two seconds, and the
        rate of the frames written, which has at most `_MOST_TICKS` when its decimal point is left out.
    """
    repeats = max(1, math.ceil(_LEAST_RATE / frame_rate))
    frame_rate = min(frame_rate * repeats, _MOST_TICKS)
    digits = next(digits for digits in (3, 2, 1, 0) if round(frame_rate * 10**digits) <= _MOST_TICKS)
    return repeats, round(frame_rate, digits)
