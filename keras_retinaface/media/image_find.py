"""Finds the image files that a path, a folder or a glob names; decodes none."""

from __future__ import annotations

import glob
import importlib.util
import mimetypes
import os
import pathlib
from collections.abc import Iterator

from absl import logging

_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".avif", ".jp2", ".j2k", ".tif", ".tiff", ".bmp"),
    *(".gif", ".ppm", ".pgm", ".pbm", ".pnm", *_HEIF_SUFFIXES),
)
# Pictures of formats that are not read: raw files of cameras, editors' own files, drawings.
_OTHER_SUFFIXES = frozenset(
    ".3fr .ai .arw .cr2 .cr3 .crw .dcm .dcr .dds .dng .emf .eps .erf .exr .fff .hdr .icns .ico .iiq .jls "
    ".jpc .jpf .jpm .jpx .jxl .jxr .kdc .mef .mos .mrw .nef .nrw .orf .pcx .pef .pfm .psb .psd .qoi .raf "
    ".raw .rw2 .rwl .sr2 .srf .srw .svg .svgz .tga .wdp .wmf .x3f .xbm .xcf .xpm".split()
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_STARTS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
)
# What Finder leaves beside a picture on foreign disks, and what `atomic` has not finished.
_HIDDEN = ("._", ".partial-")
_MOST_NAMED = 3


def find(pattern: str) -> list[str]:
    """Lists the images that a glob, folder or single path names.

    Args:
        pattern: a folder is searched through all its subfolders; a glob (`**` crosses folders) or path is taken as is.
            Where a name with `[`, `?` or `*` exists, it is that file or folder and no glob, in every part of a path.

    Returns:
        Sorted paths. A path without wildcards is returned even where no file is, so that its absence gets reported.
        Pictures in a folder that cannot be read for their format are counted and named in one warning.
    """
    pattern = os.fspath(pattern)
    if not pattern:
        return []
    if os.path.isdir(pattern):
        return _in_folder(pattern)
    if os.path.lexists(pattern) or not _has_magic(pattern):
        return [pattern]
    drive, rest = os.path.splitdrive(pattern)
    root = drive + os.sep if rest.startswith(os.sep) else drive
    return sorted({path for path in _expand(root, rest.lstrip(os.sep).split(os.sep)) if os.path.isfile(path)})


def is_heif(start: bytes) -> bool:
    """Returns whether a file that begins so is HEIC.

    Args:
        start: 32 bytes.
    """
    if start[4:8] != b"ftyp":
        return False
    # The general names of the family tell nothing; what a file is compatible with follows.
    brands = [start[place : place + 4] for place in (8, *range(16, len(start) - 3, 4))]
    return brands[0] in _HEIF_BRANDS or (brands[0] in (b"mif1", b"msf1") and any(b in _HEIF_BRANDS for b in brands[1:]))


def is_image(start: bytes) -> bool:
    """Returns whether a file that begins so is of a format that Pillow reads for us; PNM and BMP begin too briefly.

    Args:
        start: 32 bytes.
    """
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(_STARTS) or is_webp or start[4:12] in (b"ftypavif", b"ftypavis")


def _has_magic(part: str) -> bool:
    return any(character in part for character in "*?[")


def _expand(folder: str, parts: list[str]) -> Iterator[str]:
    """Yields what a pattern's parts name under a folder; each is a name where that exists, or else a glob."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    literal = os.path.join(folder, part)
    if not _has_magic(part) or os.path.lexists(literal):
        yield from _expand(literal, rest)
    elif part == "**":
        folders = glob.glob(os.path.join(glob.escape(folder), "**", ""), recursive=True)
        for found in {folder, *folders}:
            yield from _expand(found, rest or ["*"])
    else:
        for found in glob.glob(os.path.join(glob.escape(folder), part)):
            yield from _expand(found, rest)


def _in_folder(folder: str) -> list[str]:
    taken, passed_over = [], []
    has_heif = importlib.util.find_spec("pillow_heif") is not None
    for path in sorted(pathlib.Path(folder).rglob("*")):
        suffix, kind = path.suffix.lower(), mimetypes.guess_type(path.name)[0]
        if path.name.startswith(_HIDDEN):
            continue
        if suffix in SUFFIXES and (has_heif or suffix not in _HEIF_SUFFIXES):
            found = taken
        elif suffix in _OTHER_SUFFIXES or (kind or "").startswith("image/") or suffix in _HEIF_SUFFIXES:
            found = passed_over
        elif (kind or "application/").startswith("application/") and path.name[0] != "." and _holds_image(path):
            found = taken  # the name says too little
        else:
            continue
        if path.is_file() or (path.is_symlink() and not os.path.exists(path)):  # a link to nothing is told when read
            found.append(str(path))
    lacks_heif = any(path.lower().endswith(_HEIF_SUFFIXES) for path in passed_over)
    if passed_over:
        logging.warning(
            "%s: passing over pictures for their format, %d in all: %s%s%s",
            folder,
            len(passed_over),
            ", ".join(passed_over[:_MOST_NAMED]),
            ", ..." if len(passed_over) > _MOST_NAMED else "",
            " (HEIC needs one more package: pip install pillow-heif)" if lacks_heif else "",
        )
    return sorted(taken)


def _holds_image(path: pathlib.Path) -> bool:
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            start = file.read(32)
    except OSError:
        return False
    return is_image(start)
