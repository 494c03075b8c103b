"""Silences the libtiff inside Pillow, which writes to the standard streams past Python."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import pathlib

import PIL


@functools.cache
def silence() -> None:
    """Takes away the handlers of Pillow's own libtiff, which prints a line for every faulty line of a picture."""
    folder = pathlib.Path(PIL.__file__).parent
    # Where Pillow's wheels for Linux and macOS keep it. `ctypes.util.find_library` would start a child process.
    for name in (*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(name))
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
