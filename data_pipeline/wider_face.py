"""Reads the two annotation texts of WIDER FACE, the official one and RetinaFace's `label.txt`; no TensorFlow here."""

from __future__ import annotations

import os

from data_pipeline import record as record_lib
from keras_retinaface.formats import annotation_text

_OFFICIAL_ROW = "10 numbers: x y w h blur expression illumination invalid occlusion pose, none over 1e7"


def read(path: str, bad_data: record_lib.BadData | None = None) -> list[record_lib.Record]:
    """Reads an annotation file of either format, told apart by its first line.

    A row with a fault costs its whole image, because the face of a row left out would be learnt as background. Faces
    marked invalid and faces without area are kept and ignored.

    Args:
        path: path of the file.
        bad_data: what to do with a fault; raises when None.

    Returns:
        One record an image, in the order of the file.

    Raises:
        ValueError: at the first fault, naming `file:line`, unless it is to be skipped.

    Source: the formats are described at http://shuoyang1213.me/WIDERFACE and in insightface's RetinaFace.
    """
    bad_data = bad_data or record_lib.BadData()
    text, name = annotation_text.read(path), os.path.basename(path)
    if text.lstrip().startswith("#"):
        images, num_lost = annotation_text.read_label(text, name, bad_data.add)
        bad_data.num_skipped += num_lost
        records = [
            record_lib.make(image.name, [_label_face(row) for row in image.rows], f"{name}:{image.line}")
            for image in images
        ]
    else:
        records = _Reader(path, text.split("\n"), bad_data).read_official()
    return record_lib.check_duplicates(records, bad_data)


class _Reader:
    """Walks over the lines of one official file."""

    def __init__(self, path: str, lines: list[str], bad_data: record_lib.BadData):
        self._name = os.path.basename(path)
        self._lines = lines
        self._bad_data = bad_data
        self._next = 0

    def read_official(self) -> list[record_lib.Record]:
        records = []
        while self._skip_blank():
            number, name = self._take()
            if not annotation_text.is_image(name):
                self._fault(number, "the path of an image or the row of a face that the count covers", name)
                # A row too many belongs to the image before it, whose other faces are then not all there are.
                if records and annotation_text.numbers(name):
                    records.pop()
                self._bad_data.num_skipped += 1
                self._find_image(number)
                continue
            record = self._read_official_image(number, name)
            if record is None:
                self._bad_data.num_skipped += 1
                self._find_image(number)
            else:
                records.append(record)
        return records

    def _read_official_image(self, number: int, name: str) -> record_lib.Record | None:
        count_number, text = self._take()
        count = annotation_text.whole(text)
        if count is None:
            return self._fault(count_number, f"the number of faces in {annotation_text.cut(name)}", text)
        if expected := annotation_text.name_fault(name):
            self._fault(number, expected, name)
        faces, is_good = [], not expected
        # An image without faces still has one row, of zeros; some files leave it out.
        for _ in range(max(count, 1)):
            row_number, row = self._take()
            if not count and (annotation_text.is_image(row) or not row):
                self._next -= 1
                break
            values = annotation_text.numbers(row)
            if values is None or len(values) != 10:
                self._fault(row_number, _OFFICIAL_ROW, row)
                is_good = False
                break
            x, y, width, height = values[:4]
            if width or height or count > 1:
                faces.append(record_lib.Face((x, y, x + width, y + height), is_ignored=values[7] != 0))
        return record_lib.make(name, faces, f"{self._name}:{number}") if is_good else None

    def _take(self) -> tuple[int, str]:
        """Returns the next line's number and text, an empty one at the end of the file."""
        self._next += 1
        return self._next, self._lines[self._next - 1].strip() if self._next <= len(self._lines) else ""

    def _skip_blank(self) -> bool:
        while self._next < len(self._lines) and not self._lines[self._next].strip():
            self._next += 1
        return self._next < len(self._lines)

    def _find_image(self, number: int) -> None:
        """Goes on after line `number` to the next path of an image."""
        self._next = number
        while self._next < len(self._lines) and not annotation_text.is_image(self._lines[self._next].strip()):
            self._next += 1

    def _fault(self, number: int, expected: str, row: str) -> None:
        self._bad_data.add(f"{self._name}:{number}", expected, row or "the end of the file or a blank line")


def _label_face(row: annotation_text.LabelRow) -> record_lib.Face:
    x, y, width, height = row.box
    points = tuple(point or (0.0, 0.0) for point in row.points)
    visible = tuple(point is not None for point in row.points)
    return record_lib.Face((x, y, x + width, y + height), points, visible)
