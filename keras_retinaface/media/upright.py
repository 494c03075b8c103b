"""From Pillow's pictures to upright RGB arrays, whatever their colour mode; opens no files."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

# Modes whose 16 bits Pillow would clip to 255 instead of scaling.
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """A file that is no readable image, or could not be written; the message names it."""


def to_rgb(image: Image.Image, name: str | os.PathLike) -> np.ndarray:
    """Turns a picture as its metadata says and makes RGB of it.

    Args:
        image: its pixels may still be in the file.
        name: what messages call it.

    Returns:
        uint8 `[H, W, 3]`, RGB. Grey is repeated, alpha dropped, 16 bits scaled to 8, CMYK converted.

    Raises:
        ImageError: if it holds floating-point pixels.
    """
    image.load()  # of some formats the orientation stands behind the pixels
    turn = _TURNS.get(orientation(image))
    image = image if turn is None else image.transpose(turn)
    if image.mode == "F":
        raise ImageError(f"{name}: expected 8 or 16 bits a channel. Received: floating-point pixels")
    if image.mode in _SIXTEEN_BIT:
        grey = (np.clip(np.asarray(image, np.float32), 0, 65535) / 257.0 + 0.5).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """Returns 1 to 8, as EXIF counts; 1 where nothing is said, or nothing that can be meant."""
    for _ in range(2):  # a second call gives what the first had read when it met something odd
        try:
            value = image.getexif().get(_ORIENTATION)
        except Exception:  # as decoders raise anything
            continue
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    return 1
