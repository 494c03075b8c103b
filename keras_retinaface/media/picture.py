"""Whatever stands for a picture in Python, a path, a Pillow image or an array, as the array that detectors take."""

from __future__ import annotations

import os
import typing

import numpy as np
from PIL import Image

from keras_retinaface.media import image_file, upright

# One picture, for annotations.
Picture = typing.Union[str, os.PathLike, Image.Image, np.ndarray]
_WANTED = "must be a path, a Pillow image, or an array: uint8 [height, width, 3], RGB"


def is_one(value) -> bool:
    """Returns whether a value is one picture where several are wanted."""
    return isinstance(value, (str, bytes, os.PathLike, Image.Image)) or (
        isinstance(value, np.ndarray) and value.ndim < 4
    )


def as_array(picture: Picture, name: str = "image") -> np.ndarray:
    """Reads a picture upright; an array comes back as it is.

    Args:
        picture: a path of a file that `image_file.read` reads; a Pillow image of any mode, which is turned as its EXIF
            says; or an array uint8 `[H, W, 3]`, RGB.
        name: the argument's name, for messages.

    Returns:
        uint8 `[H, W, 3]`, RGB.

    Raises:
        ValueError: if it is none of these, or cannot be read; says what came.
    """
    if isinstance(picture, (str, os.PathLike)):
        return image_file.read(picture)
    if isinstance(picture, Image.Image):
        return _of_pillow(picture, name)
    if picture is None or isinstance(picture, (bytes, bytearray, dict, set)):
        raise ValueError(f"`{name}` {_WANTED}. Received: {'None' if picture is None else type(picture).__name__}")
    try:
        array = np.asarray(picture)
    except Exception as error:  # lists of unequal lengths, tensors of another device
        raise ValueError(f"`{name}` {_WANTED}. Received: {type(picture).__name__}") from error
    if isinstance(picture, (list, tuple)) and array.ndim != 3:
        raise ValueError(f"`{name}` {_WANTED}; `detect_batch` takes several. Received: {type(picture).__name__}")
    if array.dtype == object:
        raise ValueError(f"`{name}` {_WANTED}. Received: {type(picture).__name__}")
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(f"`{name}` must be uint8 [height, width, 3], RGB. Received: {array.dtype} {list(array.shape)}")
    return array


def _of_pillow(picture: Image.Image, name: str) -> np.ndarray:
    if 0 in picture.size:
        raise ValueError(f"`{name}` must have pixels. Received: {picture.size[0]} x {picture.size[1]}")
    try:
        return upright.to_rgb(picture, name)
    except image_file.ImageError:
        raise
    except Exception as error:  # its file may be cut off, closed or gone
        raise ValueError(f"`{name}` cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
