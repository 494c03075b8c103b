"""Reads the XML of dlib's labelling tool, as 300-W has it. A document type, and with it every entity, is refused."""

from __future__ import annotations

import os
import xml.parsers.expat

import numpy as np

from keras_retinaface.formats import annotation_text

NUM_POINTS = 68
_SIDES = ("left", "top", "width", "height")
_PARTS = {f"{point:02d}": point for point in range(NUM_POINTS)}
# dataset, images, image, box, part.
_MOST_DEEP = 32


def read(path: str | os.PathLike) -> list[tuple[str, list[list[float]], list[np.ndarray]]]:
    """Reads names, boxes and points.

    Args:
        path: path of the file.

    Returns:
        For each image its name, its boxes (x, y, width, height, pixels), and a float64 `[68, 2]` of points for each
        box, pixels, NaN where a point is not annotated.

    Raises:
        ValueError: `file:line` and what is wrong there.
    """
    with open(path, "rb") as file:
        content = file.read()
    reader = _Reader(str(path))
    try:
        reader.parser.Parse(content, True)
    except xml.parsers.expat.ExpatError as error:
        raise ValueError(f"{path}:{error.lineno}: not XML: {error}") from None
    except LookupError as error:  # an encoding that nobody knows
        raise ValueError(f"{path}:1: not XML: {error}") from None
    if not reader.images:
        raise ValueError(f"{path}:1: expected <image> elements")
    return reader.images


class _Reader:
    """Takes the events of one file."""

    def __init__(self, path: str):
        self._path, self._depth = path, 0
        self.images: list[tuple[str, list[list[float]], list[np.ndarray]]] = []
        self._is_in_image = self._is_in_box = False
        self.parser = xml.parsers.expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def _fail(self, expected: str, received: object) -> None:
        annotation_text.fail(f"{self._path}:{self.parser.CurrentLineNumber}", expected, received)

    def _refuse(self, name: str, *unused: object) -> None:
        self._fail("no document type: entities are not read", f"<!DOCTYPE {name}")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MOST_DEEP:
            self._fail("<image>, <box> and <part>", f"elements over {_MOST_DEEP} deep")
        if tag == "image":
            name = attributes.get("file", "")
            if expected := annotation_text.name_fault(name):
                self._fail(f'<image file="...">: {expected}', name)
            self.images.append((name, [], []))
            self._is_in_image = True
        elif tag == "box" and self._is_in_image:
            self.images[-1][1].append(self._numbers(tag, attributes, _SIDES))
            self.images[-1][2].append(np.full((NUM_POINTS, 2), np.nan))
            self._is_in_box = True
        elif tag == "part" and self._is_in_box:
            point = self._numbers(tag, attributes, ("x", "y"))
            if attributes.get("name") in _PARTS:
                self.images[-1][2][-1][_PARTS[attributes["name"]]] = point

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "image":
            self._is_in_image = False
        elif tag == "box":
            self._is_in_box = False

    def _numbers(self, tag: str, attributes: dict[str, str], keys: tuple[str, ...]) -> list[float]:
        values = [annotation_text.number(attributes.get(key, "")) for key in keys]
        if None in values:
            self._fail(f"<{tag}> with the numbers {' '.join(keys)}", {key: attributes.get(key) for key in keys})
        return values
