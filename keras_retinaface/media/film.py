"""Encoders of films: H.264 through PyAV, which browsers play, or MPEG-4 through OpenCV where PyAV is missing."""

from __future__ import annotations

import contextlib
import fractions
import importlib.util
import io
import os
from collections.abc import Iterator

import cv2
import numpy as np
from absl import logging

# Of libx264: hardly told from the original, and a tenth of the time of the network.
_OPTIONS = {"preset": "veryfast", "crf": "20"}
# Rates as 30000/1001 are exact with this denominator.
_LARGEST_DENOMINATOR = 1001
# What every browser plays in an MP4, held as it is; other sound is encoded anew.
_COPIED = "aac"
# BT.601, called ITU601 where colours are converted to it; said in the film, so that players need not guess by its size.
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
        path: path of the `.mp4`.
        frame_rate: frames a second.
        size: (width, height), pixels; where odd, the last column or row is repeated, as the format knows even ones.
        sound: path of the film whose sound is kept; None, or one without: none. Sound that fails is left out from there
            on, with a warning: pictures alone are a film too.
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
        self._source, self._sound, self._waiting = sound, iter(()), None
        if sound:
            try:
                self._sound = self._open_sound(sound)
            except Exception as error:  # PyAV's errors are of many kinds
                logging.warning("%s: the sound is left out: %s", sound, _reason(error))

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame, uint8 `[H, W, 3]`, RGB."""
        if any(after for _, after in self._odd):
            frame = np.pad(frame, self._odd, mode="edge")
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU601")
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
        try:
            while True:
                packet = self._waiting or next(self._sound, None)
                self._waiting = packet
                if packet is None or packet.pts * _exact(packet.time_base) >= end:
                    return
                self._film.mux(packet)
                self._waiting = None
        except Exception as error:  # as where the times of recordings that were joined jump back
            logging.warning("%s: the sound is left out from %.1f s on: %s", self._source, end, _reason(error))
            self._sound, self._waiting = iter(()), None

    def _open_sound(self, path: str) -> Iterator:
        """Returns the packets of a film's first sound track; none where it has none."""
        source = self._stack.enter_context(self._av.open(path))
        if not source.streams.audio:
            return iter(())
        track = source.streams.audio[0]
        if track.codec_context is None:
            raise ValueError("no decoder for it")
        # The header of the film is written once for all tracks: one that cannot be kept would cost the pictures too.
        with self._av.open(io.BytesIO(), "w", format="mp4") as trial:
            _add_track(trial, track)
            trial.start_encoding()
        kept = _add_track(self._film, track)
        # The pictures are written from 0 on; in recordings of television and cameras the first has any time.
        first = source.streams.video[0] if source.streams.video else None
        start = first.start_time * _exact(first.time_base) if first and first.start_time else fractions.Fraction(0)
        if track.codec_context.name == _COPIED:
            return self._copied(source, track, kept, start)
        return self._encoded(source, track, kept, start)

    def _copied(self, source, track, kept, start: fractions.Fraction) -> Iterator:
        ticks = round(start / _exact(track.time_base))
        for packet in source.demux(track):
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            # One that ends where the pictures begin stays: AAC needs it to decode the next.
            if packet.pts + (packet.duration or 0) >= 0:
                packet.stream = kept
                yield packet

    def _encoded(self, source, track, kept, start: fractions.Fraction) -> Iterator:
        for frame in source.decode(track):
            if frame.pts is not None:
                # In samples: MP3 in an AVI counts in frames, which the encoder's, of another length, would round to.
                frame.pts = round((frame.pts * _exact(frame.time_base) - start) * frame.sample_rate)
                frame.time_base = fractions.Fraction(1, frame.sample_rate)
                if frame.pts + frame.samples < 0:
                    continue
            yield from (packet for packet in kept.encode(frame) if packet.pts is not None)
        yield from (packet for packet in kept.encode() if packet.pts is not None)


def _add_track(film, track):
    """Adds a track to a film that holds the sound of another: as it is, or encoded anew."""
    if track.codec_context.name == _COPIED:
        return film.add_stream_from_template(track)
    kept = film.add_stream("aac", rate=track.codec_context.sample_rate)
    # Some containers say how many channels there are, and not where they are heard.
    kept.codec_context.layout = "mono" if track.codec_context.channels == 1 else "stereo"
    return kept


def _reason(error: Exception) -> str:
    """Returns what went wrong, of PyAV's errors without the hidden name under which the film is written."""
    return getattr(error, "strerror", None) or str(error)


def _exact(time_base) -> fractions.Fraction:
    """Returns seconds a tick; from PyAV 19 on they may come as a type of its own, which does not calculate."""
    return fractions.Fraction(time_base.numerator, time_base.denominator)


def open_encoder(path: str | os.PathLike, frame_rate: float, size: tuple[int, int], sound: str | None = None):
    """Opens the best encoder that is installed.

    Args:
        path: path of the `.mp4`.
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
