"""Reads the two annotation texts of WIDER FACE, the official one and RetinaFace's `label.txt`; no TensorFlow here."""

from __future__ import annotations

import math
import os

from data_pipeline import record as record_lib

_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_OFFICIAL_ROW = "10 numbers: x y w h blur expression illumination invalid occlusion pose"
_LABEL_ROW = "4, 19 or 20 numbers: x y w h [5 x (x y flag)] [quality]"
_NUM_POINTS = 5


def read(path: str, bad_data: record_lib.BadData | None = None) -> list[record_lib.Record]:
    """Reads an annotation file of either format, told apart by its first line.

    A row with a fault costs its whole image, because the face of a row left out would be learnt as background. Faces
    marked invalid and faces without area are kept and ignored.

    Args:
        path: of the file.
        bad_data: what to do with a fault; raises when None.

    Returns:
        One record an image, in the order of the file.

    Raises:
        ValueError: at the first fault, naming `file:line`, unless it is to be skipped.

    Source: the formats are described at http://shuoyang1213.me/WIDERFACE and in insightface's RetinaFace.
    """
    bad_data = bad_data or record_lib.BadData()
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    reader = _Reader(path, lines, bad_data)
    first = next((line for line in lines if line.strip()), "")
    records = reader.read_label() if first.lstrip().startswith("#") else reader.read_official()
    return record_lib.check_duplicates(records, bad_data)


class _Reader:
    """Walks over the lines of one file."""

    def __init__(self, path: str, lines: list[str], bad_data: record_lib.BadData):
        self._name = os.path.basename(path)
        self._lines = lines
        self._bad_data = bad_data
        self._next = 0

    def read_official(self) -> list[record_lib.Record]:
        records = []
        while self._skip_blank():
            number, name = self._take()
            if not _is_image(name):
                self._fault(number, "the path of an image or the row of a face that the count covers", name)
                # A row too many belongs to the image before it, whose other faces are then not all there are.
                if records and _numbers(name):
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
        if not text.isdigit():
            return self._fault(count_number, f"the number of faces in {name}", text)
        faces, is_good = [], True
        # An image without faces still has one row, of zeros; some files leave it out.
        for _ in range(max(int(text), 1)):
            row_number, row = self._take()
            if text == "0" and (_is_image(row) or not row):
                self._next -= 1
                break
            values = _numbers(row)
            if values is None or len(values) != 10:
                self._fault(row_number, _OFFICIAL_ROW, row)
                is_good = False
                break
            x, y, width, height = values[:4]
            if width or height or int(text) > 1:
                faces.append(record_lib.Face((x, y, x + width, y + height), is_ignored=values[7] != 0))
        return record_lib.make(name, faces, f"{self._name}:{number}") if is_good else None

    def read_label(self) -> list[record_lib.Record]:
        records: list[record_lib.Record] = []
        number, name, faces, is_good = 0, "", [], True

        def flush():
            if name and is_good:
                records.append(record_lib.make(name, faces, f"{self._name}:{number}"))
            elif name or not is_good:
                self._bad_data.num_skipped += 1

        while self._skip_blank():
            row_number, row = self._take()
            if row.startswith("#"):
                flush()
                # SCRFD's files have width and height after the path, and corners in the rows: not to be read as this.
                number, name, faces, is_good = row_number, row[1:].strip(), [], True
                if not _is_image(name):
                    self._fault(row_number, "`# ` and the path of an image", row)
                    is_good = False
                continue
            if not is_good:
                continue
            values = _numbers(row)
            if not name or values is None or len(values) not in (4, 19, 20):
                self._fault(row_number, _LABEL_ROW if name else "a `# path` line before the first row", row)
                is_good = False
            elif any(values[:4]):
                faces.append(_label_face(values))
        flush()
        return records

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
        while self._next < len(self._lines) and not _is_image(self._lines[self._next].strip()):
            self._next += 1

    def _fault(self, number: int, expected: str, row: str) -> None:
        self._bad_data.add(f"{self._name}:{number}", expected, row or "the end of the file or a blank line")


def _label_face(values: list[float]) -> record_lib.Face:
    x, y, width, height = values[:4]
    points, visible = [(0.0, 0.0)] * _NUM_POINTS, [False] * _NUM_POINTS
    if len(values) > 4:
        for index in range(_NUM_POINTS):
            point_x, point_y, flag = values[4 + 3 * index : 7 + 3 * index]
            # The flag is 0 for a point in sight, 1 for one behind something, whose place an annotator still gave.
            if flag >= 0 and (point_x, point_y) != (-1.0, -1.0):
                points[index], visible[index] = (point_x, point_y), True
    return record_lib.Face((x, y, x + width, y + height), tuple(points), tuple(visible))


def _is_image(text: str) -> bool:
    return text.lower().endswith(_IMAGE_ENDINGS)


def _numbers(row: str) -> list[float] | None:
    """Returns the finite numbers of a row, None if anything else stands there."""
    try:
        values = [float(word) for word in row.split()]
    except ValueError:
        return None
    return values if all(math.isfinite(value) for value in values) else None
