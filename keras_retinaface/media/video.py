"""Frames of a video file or camera in and out, RGB, beside other work. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import os
import pathlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

# For cameras and files that do not say how fast they run.
_FALLBACK_RATE = 25.0
# Frames that wait between two threads: enough to even out, few enough for 4K.
_QUEUE_SIZE = 4


class Reader:
    """The frames of a video.

    Args:
        source: path of a file, or the number of a camera.

    Attributes:
        frame_rate: frames a second.
        num_frames: of a file as its header says, or None where it does not.

    Raises:
        ValueError: if it cannot be opened.
    """

    def __init__(self, source: str):
        self._capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
        if not self._capture.isOpened():
            raise ValueError(f"{source}: not a readable video or camera")
        self.frame_rate = self._capture.get(cv2.CAP_PROP_FPS) or _FALLBACK_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = count if count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields frames, uint8 `[H, W, 3]`, RGB, until there are no more."""
        try:
            while True:
                is_read, frame = self._capture.read()
                if not is_read:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # a hundredth of the time that NumPy's reversal takes
        finally:
            self._capture.release()


def ahead(items: Iterable, size: int = _QUEUE_SIZE) -> Iterator:
    """Yields items that a thread of its own fetches a few ahead, so that decoding runs beside detecting.

    Args:
        items: of any kind; an error while they are fetched is raised here.
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
    """Writes an MP4 file, which gets its name only when it is whole.

    Args:
        path: of the `.mp4`.
        frame_rate: frames a second.
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float):
        self._path, self._frame_rate, self._writer = pathlib.Path(path), frame_rate, None
        self._partial = self._path.with_name(f".{os.getpid()}.{self._path.name}")

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame.

        Args:
            frame: uint8 `[H, W, 3]`, RGB; all of one size.

        Raises:
            ValueError: if the file cannot be written.
        """
        if self._writer is None:
            size = (frame.shape[1], frame.shape[0])
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._partial), codec, self._frame_rate, size)
            if not self._writer.isOpened():
                raise ValueError(f"{self._path}: cannot write a video of {size[0]} x {size[1]} there")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                os.replace(self._partial, self._path)
        self._partial.unlink(missing_ok=True)
