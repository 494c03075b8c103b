"""Draws boxes, scores and points on images; meshes are drawn by `mesh.drawing`. Imports no TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_BOX, _TEXT, _RING = (40, 220, 90), (0, 25, 5), (0, 0, 0)
# One colour a landmark, so that a swapped left and right shows.
_POINTS = ((255, 80, 80), (80, 160, 255), (255, 230, 60), (255, 80, 255), (80, 255, 255))
# Parts of a pixel that OpenCV draws to, in bits.
_SHIFT = 4


def faces(image: np.ndarray, found: Iterable) -> np.ndarray:
    """Draws boxes, scores and landmarks, in sizes that go by the face and by the picture.

    Args:
        image: uint8 `[H, W, 3]`, RGB; not changed.
        found: `face.Face`s.

    Returns:
        uint8 `[H, W, 3]`, RGB.
    """
    canvas = np.ascontiguousarray(image.copy())
    found, long_side = list(found), max(image.shape[:2])
    for face in found:
        corners = tuple(int(round(float(v))) for v in face.box)
        side = max(1.0, float(face.box[2] - face.box[0]))
        cv2.rectangle(canvas, corners[:2], corners[2:], _BOX, _thickness(side, long_side), cv2.LINE_AA)
        # Large enough to be seen where the whole picture is on a screen, small enough to leave the eye free.
        radius = max(1.0, side / 50, min(long_side / 500, side / 14))
        for point, colour in zip(face.landmarks, _POINTS):
            centre = tuple(int(round(float(v) * (1 << _SHIFT))) for v in point)
            for ring, shade in ((max(0.7, radius / 3), _RING), (0.0, colour)):
                size = int(round((radius + ring) * (1 << _SHIFT)))
                cv2.circle(canvas, centre, size, shade, -1, cv2.LINE_AA, _SHIFT)
    for face in reversed(found):  # above all boxes and points, the best face's above all
        _write(canvas, f"{face.score:.2f}", face.box, long_side)
    return canvas


def _thickness(side: float, long_side: int) -> int:
    """Returns the width of a box's lines: seen on large photos, no lid on small faces."""
    return max(1, round(max(side / 150, min(long_side / 500, side / 14))))


def text_height(side: float, long_side: int) -> int:
    """Returns the height of a score's letters in pixels, for a face so wide in a picture of that longer side."""
    return round(max(11.0, min(long_side / 70, side / 3), min(side / 7, long_side / 25)))


def _write(canvas: np.ndarray, text: str, box: np.ndarray, long_side: int) -> None:
    """Writes on a ground of the box's colour, above the box or, where there is no room, at its top."""
    side = max(1.0, float(box[2] - box[0]))
    ink = _ink(text, text_height(side, long_side))
    height, width = ink.shape
    half = _thickness(side, long_side) // 2
    left = min(max(0, int(round(float(box[0]))) - half), max(0, canvas.shape[1] - width))
    top = int(round(float(box[1]))) - half - height
    top = min(max(0, top if top >= 0 else int(round(float(box[1]))) + half), max(0, canvas.shape[0] - height))
    part = canvas[top : top + height, left : left + width]
    ink = ink[: part.shape[0], : part.shape[1], None]
    part[:] = np.round(np.array(_BOX) * (1 - ink) + np.array(_TEXT) * ink).astype(np.uint8)


@functools.lru_cache(maxsize=4096)
def _ink(text: str, height: int) -> np.ndarray:
    """Returns how much of each pixel letters cover, with a margin around them: float32 `[H, W]`, 0..1."""
    font = ImageFont.load_default(height * 1.3)  # of which figures are so high
    left, top, right, bottom = font.getbbox(text)
    margin = max(2, round(height / 5))
    picture = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin))
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, 255, font)
    return np.asarray(picture, np.float32) / 255.0
