"""Frames of a video file or camera in and out, RGB. Imports no TensorFlow."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

# For cameras and files that do not say how fast they run.
_FALLBACK_RATE = 25.0


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
                yield np.ascontiguousarray(frame[..., ::-1])
        finally:
            self._capture.release()


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
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                os.replace(self._partial, self._path)
        self._partial.unlink(missing_ok=True)
