"""Reads text that people and tools write beside images: encodings, numbers, names, and RetinaFace's `label.txt`.

On the ground, and imports nothing of the project: training (`data_pipeline`) and evaluation read by the same rules.
"""

from __future__ import annotations

import codecs
import dataclasses
import math
import os
import posixpath
import re
from collections.abc import Callable, Sequence

NUM_POINTS = 5
# Pixels. No picture is that wide, and beyond 2^24 float32 has no whole numbers.
LARGEST = 1e7
LABEL_ROW = "4 numbers, or 19 and more: x y w h [5 x (x y flag)] [quality], none over 1e7"
# A row may have columns of forks at its end, but two rows on one line have lost their line break.
_FEWEST, _MOST = 19, 37
_LONGEST_NUMBER, _LONGEST_SHOWN = 64, 60
# `float` and `int` read more than a file may hold: underscores, digits of other scripts, nan, numbers without end.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_WHOLE = re.compile(r"[0-9]{1,9}")
_ENDING = re.compile(r"[^/\\\s]\.[A-Za-z][A-Za-z0-9]{1,4}$")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
# Longer marks first: that of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Takes `file:line`, what is expected there, and what was received; raises, or takes note.
Fault = Callable[[str, str, object], None]


@dataclasses.dataclass(frozen=True)
class LabelRow:
    """One face of a `label.txt`.

    Attributes:
        box: x, y, width, height, pixels.
        points: five (x, y), pixels, None where a point is not labelled.
    """

    box: tuple[float, float, float, float]
    points: tuple[tuple[float, float] | None, ...] = (None,) * NUM_POINTS


@dataclasses.dataclass(frozen=True)
class LabelImage:
    """An image of a `label.txt`: its name, the line of that, and its faces."""

    name: str
    line: int
    rows: tuple[LabelRow, ...]


def read(path: str | os.PathLike) -> str:
    """Reads a text file in UTF-8, or in what its byte order mark says; line breaks become newlines.

    Bytes that are none of that encoding become U+FFFD: a name in whatever encoding must not stop the numbers.

    Raises:
        ValueError: if the file holds zero bytes, as UTF-16 without a mark and files of other kinds do.
    """
    with open(path, "rb") as file:
        return decode(file.read(), str(path))


def decode(content: bytes, where: str) -> str:
    """Turns the bytes of a file into text; see `read`."""
    mark, encoding = next(((m, e) for m, e in _MARKS if content.startswith(m)), (b"", "utf-8"))
    text = content[len(mark) :].decode(encoding, errors="replace")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{where}:{line}: expected text in UTF-8, or with a byte order mark. Received: zero bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def number(word: str, largest: float = LARGEST) -> float | None:
    """Returns the number that a word is, None where it is none, not finite or over `largest` in size."""
    if len(word) > _LONGEST_NUMBER or not _NUMBER.fullmatch(word):
        return None
    value = float(word)
    return value if math.isfinite(value) and abs(value) <= largest else None


def numbers(row: str, largest: float = LARGEST) -> list[float] | None:
    """Returns the numbers of a row, None if anything else stands there."""
    values = [number(word, largest) for word in row.split()]
    return None if None in values else values


def whole(word: str) -> int | None:
    """Returns the number of at most nine digits that a word is, None where it is none."""
    return int(word) if _WHOLE.fullmatch(word) else None


def name_fault(name: object) -> str:
    """Says what an image's name must be where it is not so, else nothing.

    A name that leaves the folder would let an annotation file choose what is read and, by `--predictions_out`, written.
    """
    if not isinstance(name, str) or not name.strip() or any(ord(letter) < 32 for letter in name):
        return "the name of an image"
    path = name.replace("\\", "/")
    is_absolute = path.startswith("/") or bool(_DRIVE.match(name))
    if is_absolute or ".." in posixpath.normpath(path).split("/"):
        return "a name inside the folder of images"
    return ""


def is_image(text: str) -> bool:
    """Tells the path of an image from a row: it ends as file names do, with letters after a point."""
    return bool(_ENDING.search(text)) and not _NUMBER.fullmatch(text.split()[-1])


def shorten(received: object) -> str:
    """Returns what was received for a message, at most some sixty letters, on one line."""
    return repr(_cut(received)) if isinstance(received, str) else cut(str(received))


def cut(name: str) -> str:
    """Returns a name as it stands in a message without quotes: as `shorten`."""
    return "".join(letter if letter.isprintable() else "?" for letter in _cut(name))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def fail(where: str, expected: str, received: object) -> None:
    """Raises the error of a fault: the `Fault` of readers that leave nothing out."""
    raise ValueError(f"{where}: expected {expected}. Received: {shorten(received)}")


def read_label(text: str, where: str, fault: Fault = fail) -> tuple[list[LabelImage], int]:
    """Reads a `label.txt`: `# path`, then a row a face; a row of zeros stands for none.

    Args:
        text: text of the file.
        where: its name, for messages.
        fault: called at each fault; if it returns, the fault costs its image.

    Returns:
        The images in the order of the file, and how many were left out.

    Source: the format is described in insightface's RetinaFace.
    """
    images: list[LabelImage] = []
    name, first, rows, is_good, num_lost = "", 0, [], True, 0

    def flush() -> int:
        if name and is_good:
            images.append(LabelImage(name, first, tuple(rows)))
        return 0 if is_good else 1

    for line, row in enumerate(text.split("\n"), start=1):
        row = row.strip()
        if row.startswith("#"):
            num_lost += flush()
            name, first, rows, is_good = row[1:].strip(), line, [], True
            # SCRFD's files have width and height after the path, and corners in the rows: not to be read as this.
            expected = name_fault(name) if is_image(name) else "`# ` and the path of an image"
            if expected:
                fault(f"{where}:{line}", expected, row)
                is_good = False
        elif row and is_good:
            values = numbers(row)
            if not name or values is None or not _has_label_columns(values):
                fault(f"{where}:{line}", LABEL_ROW if name else "a `# path` line before the first row", row)
                is_good = False
            elif any(values[:4]):
                rows.append(_label_row(values))
    num_lost += flush()
    return images, num_lost


def _has_label_columns(values: Sequence[float]) -> bool:
    return len(values) == 4 or _FEWEST <= len(values) <= _MOST


def _label_row(values: list[float]) -> LabelRow:
    points: list[tuple[float, float] | None] = [None] * NUM_POINTS
    if len(values) > 4:
        for index in range(NUM_POINTS):
            x, y, flag = values[4 + 3 * index : 7 + 3 * index]
            # The flag is 0 for a point in sight, 1 for one behind something, whose place an annotator still gave.
            if flag >= 0 and (x, y) != (-1.0, -1.0):
                points[index] = (x, y)
    x, y, width, height = values[:4]
    return LabelRow((x, y, width, height), tuple(points))
