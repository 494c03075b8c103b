"""Reads and writes image files as RGB arrays; what cannot be read raises one clear line. Imports no TensorFlow."""

from __future__ import annotations

import glob
import os
import pathlib
import warnings

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
# Modes whose 16 bits Pillow would clip to 255 instead of scaling.
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class ImageError(ValueError):
    """A file that is no readable image; the message names it."""


def read(path: str | os.PathLike) -> np.ndarray:
    """Reads an image upright (EXIF orientation applied), whatever its colour mode.

    Args:
        path: of a JPEG, PNG, BMP, WebP, TIFF, GIF (first frame) or PNM file.

    Returns:
        uint8 `[H, W, 3]`, RGB. Grey is repeated, alpha dropped, 16 bits scaled to 8, CMYK converted.

    Raises:
        ImageError: if the file is missing, empty, truncated, no image, or holds floating-point pixels.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: the file is empty")
    try:
        with warnings.catch_warnings():
            # A photo over 89 megapixels is large, not an attack; past twice that Pillow raises.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image), path)
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: not a readable image: {error}") from error


def _to_rgb(image: Image.Image, path: pathlib.Path) -> np.ndarray:
    if image.mode == "F":
        raise ImageError(f"{path}: expected 8 or 16 bits a channel. Received: floating-point pixels")
    if image.mode in _SIXTEEN_BIT:
        grey = (np.clip(np.asarray(image, np.float32), 0, 65535) / 257.0 + 0.5).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.array(image.convert("RGB"))


def write(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes an image in the format of the suffix; the file appears whole or not at all.

    Args:
        path: of the file; its folder must exist.
        image: uint8 `[H, W, 3]`, RGB.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        Image.fromarray(image).save(partial, **({"quality": 92} if path.suffix.lower() in (".jpg", ".jpeg") else {}))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def find(pattern: str) -> list[str]:
    """Lists the images that a glob, folder or single path names.

    Args:
        pattern: a folder is searched through all its subfolders; a glob (`**` crosses folders) or path is taken as is.

    Returns:
        Sorted paths. A path without wildcards is returned even where no file is, so that its absence gets reported.
    """
    path = pathlib.Path(pattern)
    if path.is_dir():
        return sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if any(character in pattern for character in "*?["):
        return sorted(p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))
    return [pattern]
