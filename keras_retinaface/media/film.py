"""Encoders of films: H.264 through PyAV, which browsers play, or MPEG-4 through OpenCV where PyAV is missing."""

from __future__ import annotations

import contextlib
import fractions
import importlib.util
import os
from collections.abc import Iterator

import cv2
import numpy as np

# Of libx264: hardly told from the original, and a tenth of the time of the network.
_OPTIONS = {"preset": "veryfast", "crf": "20"}
# Rates as 30000/1001 are exact with this denominator.
_LARGEST_DENOMINATOR = 1001
# What an MP4 that browsers play may hold as it is; other sound is encoded anew.
_COPIED = ("aac", "mp3")
# BT.601, in which the colours are converted; said in the film, so that players need not guess by its size.
_BT601 = 6


def has_h264() -> bool:
    """Returns whether PyAV is installed with an encoder of H.264."""
    if importlib.util.find_spec("av") is None:
        return False
    import av

    return "libx264" in av.codecs_available


class Mpeg4:
    """MPEG-4 through OpenCV, without sound."""

    def __init__(self, path: str, frame_rate: float, size: tuple[int, int]):
        self._writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), frame_rate, size)
        if not self._writer.isOpened():
            raise ValueError("no encoder")

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame, uint8 `[H, W, 3]`, RGB."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Ends the film."""
        self._writer.release()


class H264:
    """H.264 through PyAV, with the sound of another film up to where the pictures end.

    Args:
        path: of the `.mp4`.
        frame_rate: frames a second.
        size: (width, height), pixels; where odd, the last column or row is repeated, as the format knows even ones.
        sound: path of the film whose sound is kept; None, or one without: none.
    """

    def __init__(self, path: str, frame_rate: float, size: tuple[int, int], sound: str | None = None):
        import av

        self._av = av
        rate = fractions.Fraction(frame_rate).limit_denominator(_LARGEST_DENOMINATOR)
        self._odd = [(0, size[1] % 2), (0, size[0] % 2), (0, 0)]
        self._stack = contextlib.ExitStack()
        self._film = self._stack.enter_context(av.open(path, "w", format="mp4", options={"movflags": "faststart"}))
        self._pictures = self._film.add_stream("libx264", rate=rate, options=_OPTIONS)
        self._pictures.width, self._pictures.height = (side + side % 2 for side in size)
        self._pictures.pix_fmt = "yuv420p"
        context = self._pictures.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT601
        self._num_written, self._rate = 0, rate
        self._sound = self._open_sound(sound) if sound else iter(())
        self._waiting = None

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame, uint8 `[H, W, 3]`, RGB."""
        if any(after for _, after in self._odd):
            frame = np.pad(frame, self._odd, mode="edge")
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=_BT601)
        picture.pts, picture.time_base = self._num_written, 1 / self._rate
        self._num_written += 1
        self._film.mux(self._pictures.encode(picture))
        self._mux_sound(self._num_written / self._rate)

    def close(self) -> None:
        """Ends the film."""
        with self._stack:
            if self._num_written:
                self._film.mux(self._pictures.encode())

    def _mux_sound(self, end: fractions.Fraction) -> None:
        """Writes sound up to a time in seconds, between the pictures, so that a player finds both together."""
        while True:
            packet = self._waiting or next(self._sound, None)
            self._waiting = packet
            if packet is None or packet.pts * packet.time_base >= end:
                return
            self._film.mux(packet)
            self._waiting = None

    def _open_sound(self, path: str) -> Iterator:
        """Returns the packets of a film's first sound track; none where it has none or it cannot be read."""
        try:
            source = self._stack.enter_context(self._av.open(path))
            tracks = source.streams.audio
            if not tracks:
                return iter(())
            track = tracks[0]
            if track.codec_context.name in _COPIED:
                kept = self._film.add_stream_from_template(track)
                return self._copied(source, track, kept)
            kept = self._film.add_stream("aac", rate=track.codec_context.sample_rate)
            # Some containers say how many channels there are, and not where they are heard.
            kept.codec_context.layout = "mono" if track.codec_context.channels == 1 else "stereo"
            return self._encoded(source, track, kept)
        except (self._av.FFmpegError, ValueError):  # pictures alone are a film too
            return iter(())

    def _copied(self, source, track, kept) -> Iterator:
        with contextlib.suppress(Exception):  # cut off: what there is
            for packet in source.demux(track):
                if packet.pts is None or packet.dts is None:
                    continue
                packet.stream = kept
                yield packet

    def _encoded(self, source, track, kept) -> Iterator:
        with contextlib.suppress(Exception):
            for frame in source.decode(track):
                yield from (packet for packet in kept.encode(frame) if packet.pts is not None)
            yield from (packet for packet in kept.encode() if packet.pts is not None)


def open_encoder(path: str | os.PathLike, frame_rate: float, size: tuple[int, int], sound: str | None = None):
    """Opens the best encoder that is installed.

    Args:
        path: of the `.mp4`.
        frame_rate: frames a second.
        size: (width, height), pixels.
        sound: path of the film whose sound is kept, or None.

    Raises:
        ValueError: if no film of this size can be made.
    """
    if not has_h264():
        return Mpeg4(str(path), frame_rate, size)
    try:
        return H264(str(path), frame_rate, size, sound)
    except Exception as error:  # PyAV's errors are of many kinds
        raise ValueError(f"no encoder: {error}") from error
