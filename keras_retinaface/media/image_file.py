"""Reads and writes image files as RGB arrays; what cannot be read or written raises one clear line. No TensorFlow.

Formats: JPEG (`.jpg .jpeg .jpe .jfif .mpo`), PNG, WebP, AVIF, JPEG 2000 (`.jp2 .j2k`), TIFF, BMP, GIF, PNM (`.ppm
.pgm .pbm .pnm`), and HEIC (`.heic .heif .hif`) where the package pillow-heif is installed. What a file is goes by its
content, never by its name. Nothing else is opened, as some formats are programs.

Upright: a picture is turned by tag 0x0112 (orientation) of its EXIF: the first directory of the first APP1 segment of
a JPEG, the `eXIf` chunk of a PNG, the `EXIF` chunk of a WebP, the first directory of a TIFF. Without the tag, by the
first `tiff:Orientation` of the XMP. Whole numbers 2 to 8 turn; everything else, and metadata that cannot be read, does
not. AVIF and HEIC are turned by their own properties (`irot`, `imir`), whatever their EXIF says.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pathlib
import threading
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_retinaface import atomic, pixel_limit
from keras_retinaface.media import image_find, image_metadata, libtiff, upright

SUFFIXES = image_find.SUFFIXES
find = image_find.find

ImageError = upright.ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "JPEG2000", "TIFF", "BMP", "GIF", "PPM")
# From `_FIRST_EXCHANGED` on height and width are exchanged.
_FIRST_EXCHANGED = 5
_WRITTEN = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".jp2", ".j2k"), "JPEG2000"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **{".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP", ".gif": "GIF"},
}
# Pixels a side, by the formats themselves.
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535, "AVIF": 65_536}
_JPEG_QUALITY = 92
# A progressive JPEG has about ten; each goes over all pixels, so a few thousand in 20 kB would take minutes.
_MOST_SCANS = 100
# Warning filters, Pillow's log and its limit are everybody's: changed by the first reader, changed back by the last.
_LOGGER = logging.getLogger("PIL")
_LOCK, _LIMIT_LOCK, _READERS, _QUIET = threading.Lock(), threading.Lock(), [], contextlib.ExitStack()


def read(path: str | os.PathLike, *, max_pixels: int | None = None) -> np.ndarray:
    """Reads an image upright, whatever its colour mode; of several frames the first.

    Args:
        path: path of a file of the formats above.
        max_pixels: most pixels that the file may become, as for `pixel_limit.of_file`.

    Returns:
        uint8 `[H, W, 3]`, RGB. Grey is repeated, alpha dropped, 16 bits scaled to 8, CMYK converted.

    Raises:
        ImageError: if the file is missing, empty, truncated, of another format, or holds floating-point pixels or too
            many; these are refused before memory is taken. Odd metadata is no reason.
    """
    path = pathlib.Path(path)
    with _as_image_errors(path), _open_file(path, path) as file:
        return _read_open(file, path, os.fstat(file.fileno()).st_size, max_pixels, _to_pixels)


def decode(content: bytes, name: str | os.PathLike, *, max_pixels: int | None = None) -> np.ndarray:
    """Reads an image as `read` does, from the bytes of its file.

    Args:
        content: bytes of the file.
        name: what messages call it.
        max_pixels: as for `read`.

    Returns:
        uint8 `[H, W, 3]`, RGB.

    Raises:
        ImageError: as `read`.
    """
    with _as_image_errors(name):
        return _read_open(io.BytesIO(content), name, len(content), max_pixels, _to_pixels)


class Header(NamedTuple):
    """What an image file says of itself before its pixels are read.

    Attributes:
        format: as Pillow calls it: `JPEG`, `PNG` ...
        height: height of the upright image, pixels.
        width: width of the upright image, pixels.
        orientation: 1 to 8, as EXIF counts them; 1 is upright, from 5 on height and width are exchanged in the file.
        is_plain: whether it is a JPEG of one or three channels, of which all decoders make the same pixels.
    """

    format: str
    height: int
    width: int
    orientation: int
    is_plain: bool


def read_header(content: bytes | str | os.PathLike, name: str | os.PathLike) -> Header:
    """Reads size and orientation of an image without decoding it, and refuses what `read` does for its size.

    Args:
        content: bytes of the file, or its path.
        name: what messages call it.

    Raises:
        ImageError: as `read`, but for what only decoding shows.
    """
    with _as_image_errors(name):
        if isinstance(content, bytes):
            return _read_open(io.BytesIO(content), name, len(content), None, _to_header)
        with _open_file(pathlib.Path(content), name) as file:
            return _read_open(file, name, os.fstat(file.fileno()).st_size, None, _to_header)


def _to_header(image: Image.Image, file: BinaryIO, name: str | os.PathLike) -> Header:
    # Of a PNG Pillow decodes the pixels too, because the orientation may stand behind them.
    is_told = image.format != "PNG" or image_metadata.has_png_orientation(file)
    # Some versions of Pillow say the size of a TIFF as it is upright, others as it is stored.
    width, height = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
    orientation = upright.orientation(image) if is_told else 1
    if orientation >= _FIRST_EXCHANGED:
        width, height = height, width
    is_plain = image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB")
    return Header(image.format, height, width, orientation, is_plain)


@contextlib.contextmanager
def _as_image_errors(name: str | os.PathLike) -> Iterator[None]:
    """Makes whatever a decoder raises an error that names the file, and lets nobody else hear of it."""
    try:
        with _quiet():
            yield
    except ImageError:
        raise
    except Exception as error:  # decoders raise struct.error, TypeError, RuntimeError, zlib.error, MemoryError, ...
        raise ImageError(f"{name}: not a readable image: {_in_one_line(error)}") from error


def _open_file(path: pathlib.Path, name: str | os.PathLike) -> BinaryIO:
    """Opens a file for reading; a pipe, which could keep a reader waiting, is none."""
    if path.is_dir():
        raise ImageError(f"{name}: expected a file. Received: a folder")
    if not path.is_file():
        raise ImageError(f"{name}: no such file")
    return open(path, "rb")


def _read_open(
    file: BinaryIO, path: str | os.PathLike, num_bytes: int, max_pixels: int | None, make: Callable
) -> typing.Any:
    """Returns what `make` makes of an image of an allowed size; metadata that stands against it is taken out."""
    if not num_bytes:
        raise ImageError(f"{path}: the file is empty")
    limit = pixel_limit.of_file(num_bytes, max_pixels)
    try:
        try:
            return _open_within(file, path, limit, make)
        except Image.DecompressionBombError:  # more than Pillow's own limit, which is neither lower nor higher by right
            file.seek(0)
            with _pillow_limit(limit):
                return _open_within(file, path, limit, make)
    except Image.DecompressionBombError as error:
        received = str(error).split(" exceeds")[0]
        raise ImageError(f"{path}: {_too_many(limit)} Received: {received}") from error
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        file.seek(0)
        stripped = image_metadata.strip(file.read())
        if stripped is None:
            raise
        try:
            return _open_within(io.BytesIO(stripped), path, limit, make)
        except ImageError:
            raise
        except Exception:
            raise error from None


def _open_within(file: BinaryIO, path: str | os.PathLike, limit: int, make: Callable) -> typing.Any:
    with _open(file, path) as image:
        width, height = image.size
        if width * height > limit:
            raise ImageError(f"{path}: {_too_many(limit)} Received: {width} x {height}")
        return make(image, file, path)


def _to_pixels(image: Image.Image, file: BinaryIO, path: str | os.PathLike) -> np.ndarray:
    if image.format in ("JPEG", "MPO"):
        file.seek(0)
        num_scans = image_metadata.count_scans(file.read())
        if num_scans > _MOST_SCANS:
            raise ImageError(f"{path}: expected at most {_MOST_SCANS} scans in a JPEG. Received: {num_scans}")
    image.load()
    return upright.to_rgb(image, path)


def _too_many(limit: int) -> str:
    return f"expected at most {limit:,} pixels from a file of its size (--max_pixels)."


def _open(file: BinaryIO, path: str | os.PathLike) -> Image.Image:
    """Opens by content; reads the header alone."""
    start = file.read(32)
    file.seek(0)
    formats = FORMATS
    if image_find.is_heif(start):
        try:
            import pillow_heif
        except ImportError as error:
            raise ImageError(f"{path}: HEIC needs one more package: pip install pillow-heif") from error
        pillow_heif.register_heif_opener()
        formats = ("HEIF",)
    elif start.startswith((b"II", b"MM")):
        libtiff.silence()
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        if image_find.is_image(start) or image_find.is_heif(start):
            raise UnidentifiedImageError("it begins as an image does, but what follows is damaged") from error
        expected = f"expected one of {', '.join(FORMATS)}, HEIC"
        raise UnidentifiedImageError(f"{expected}. Received: a file that begins with {start[:16]!r}") from error


def _in_one_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what decoders warn of and log, in all threads until the last is done: what matters is an error."""
    with _LOCK:
        if not _READERS:
            _QUIET.enter_context(warnings.catch_warnings())
            _QUIET.callback(_LOGGER.setLevel, _LOGGER.level)
            _LOGGER.setLevel(logging.CRITICAL)
            warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif|keras_retinaface\.media\.image_file)\b")
        _READERS.append(None)
    try:
        yield
    finally:
        with _LOCK:
            _READERS.pop()
            if not _READERS:
                _QUIET.close()


@contextlib.contextmanager
def _pillow_limit(limit: int) -> Iterator[None]:
    """Lets Pillow, which refuses above twice its limit, take as many pixels; one thread at a time."""
    with _LIMIT_LOCK:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, (limit + 1) // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def write(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes an image in the format of the suffix; the file appears whole or not at all.

    Args:
        path: path of the file; its folder must exist.
        image: uint8 `[H, W, 3]`, RGB.

    Raises:
        ImageError: if the format does not hold as many pixels a side or is unknown, the folder is missing or cannot be
            written, or the disk is full.
    """
    path = pathlib.Path(path)
    height, width = image.shape[:2]
    try:
        format_name = _WRITTEN.get(path.suffix.lower())
        if format_name is None:
            raise ValueError(f"expected a name that ends in one of {' '.join(_WRITTEN)}")
        if max(height, width) > _LONGEST_SIDE.get(format_name, max(height, width)):
            longest = _LONGEST_SIDE[format_name]
            raise ValueError(
                f"expected at most {longest:,} pixels a side in {format_name}. Received: {width} x {height}"
            )
        # Into memory first: Pillow's encoders write to files without looking whether the disk took it.
        encoded = io.BytesIO()
        options = {"quality": _JPEG_QUALITY} if format_name == "JPEG" else {}
        Image.fromarray(image).save(encoded, format=format_name, **options)
        with atomic.file(path) as partial:
            partial.write_bytes(encoded.getbuffer())
    except Exception as error:  # encoders raise struct.error, SystemError, ValueError, ...
        raise ImageError(f"{path}: cannot be written: {_in_one_line(error)}") from error
