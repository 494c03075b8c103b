"""Predictions in the text format of the WIDER FACE server: reads and writes. Whether boxes make sense: `diagnosis`.

The one place where detections are turned from and to x, y, width, height; everywhere else they are xyxy.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Collection

import numpy as np
from absl import logging

from keras_retinaface import atomic
from keras_retinaface.formats import annotation_text
from keras_retinaface.inference import merging

# Whose rules: those of the official code, or those of its common Python port.
COMPATS = ("matlab", "python")
# x, y, width, height, score; and in this project's own files, when landmarks are wanted, five (x, y) after them.
NUM_COLUMNS = 5
NUM_COLUMNS_WITH_LANDMARKS = 15
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Of a coordinate or a score, which may be a logit.
_LARGEST, _LONGEST_NUMBER = 1e9, 64
_PLAIN = re.compile(r"[0-9eE+.\-\s]*", re.ASCII)
# What looks like a number and is none that counts.
_WORD = re.compile(r"[+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)


def read(
    directory: str | os.PathLike, names: Collection[str], *, compat: str = "matlab"
) -> tuple[dict[str, merging.Detections], list[str]]:
    """Reads the predictions of some images; says in a warning how many have none.

    Args:
        directory: holds `EVENT/IMAGE.txt`: image name, number of rows, then `x y width height score` a row.
        names: "event/image" without extension.
        compat: "matlab": a file with fewer rows than it announces counts as no detections, and rows past the announced
            number are left out; "python": the announced number is not looked at.

    Returns:
        "event/image" -> detections in file order, and the names without a file.

    Raises:
        FileNotFoundError: if there is no such directory, or it holds none of the files.
        ValueError: `file:line` and what is wrong there.
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"no directory of predictions at {directory}")
    predictions, missing, known = {}, [], frozenset(names)
    for name in names:
        if expected := annotation_text.name_fault(name):
            raise ValueError(f"`names` must be {expected}. Received: {annotation_text.shorten(name)}")
        path = os.path.join(directory, f"{name}.txt")
        try:
            text = annotation_text.read(path)
        except FileNotFoundError:
            missing.append(name)
            continue
        _check_title(text.partition("\n")[0], path, name, known)
        predictions[name] = parse(text, where=path, compat=compat)
    if names and not predictions:
        raise FileNotFoundError(f"{directory} holds none of {len(names)} files. {_explain_layout(directory, names)}")
    if missing:
        logging.warning("%s%s", _describe_missing(missing, names), _describe_strangers(directory, known))
    return predictions, missing


def parse(text: str, *, where: str, compat: str = "matlab") -> merging.Detections:
    """Parses one file.

    Args:
        text: text of the file.
        where: its path, for messages.
        compat: as for `read`.

    Returns:
        Detections in the order of the file; without landmarks where it has none.

    Raises:
        ValueError: `file:line` and what is wrong there.
    """
    if compat not in COMPATS:
        raise ValueError(f"`compat` must be one of {COMPATS}. Received: compat={compat!r}")
    _, _, rest = text.partition("\n")
    count, _, body = rest.partition("\n")
    announced = annotation_text.number(count.strip(), _LARGEST)
    if announced is None:
        annotation_text.fail(f"{where}:2", "the number of rows", count.strip())
    num_rows = int(announced)
    rows = _parse_rows(body, where)
    if compat == "python":
        return of_rows(rows)
    if num_rows > len(rows):
        logging.warning(
            "%s announces %d rows and has %d: by the official rule it counts as no detections",
            where,
            num_rows,
            len(rows),
        )
        return of_rows(rows[:0])
    return of_rows(rows[: max(num_rows, 0)])


def write(directory: str | os.PathLike, name: str, detections: merging.Detections) -> None:
    """Writes the file of one image, best score first; whole or not at all, so that an interrupted run can go on.

    Args:
        directory: made when missing, with the event's folder.
        name: "event/image" without extension; any number of folders, but none that leaves the directory.
        detections: detections of the image. Landmarks, which the readers in use pass over, stand behind the score. All
            numbers are written with all their digits: whole ones cost up to one point of AP.

    Raises:
        ValueError: if a number is not finite, or the name leaves the directory.
    """
    if expected := annotation_text.name_fault(name):
        raise ValueError(f"`name` must be {expected}. Received: {annotation_text.shorten(name)}")
    rows = to_rows(detections)
    if not np.isfinite(rows).all():
        raise ValueError(f"`detections` must be finite. Received: {rows[~np.isfinite(rows).all(axis=1)][0].tolist()}")
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    lines = [f"{name}.jpg", str(len(rows)), *(" ".join(map(repr, row)) for row in rows.tolist())]
    path = pathlib.Path(directory, f"{name}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def of_rows(rows: np.ndarray) -> merging.Detections:
    """Turns rows of the text format into detections; the inverse of `to_rows`.

    Args:
        rows: float `[n, 5]`: x, y, width, height (pixels), score; or `[n, 15]`: five landmarks (x, y) after them.

    Returns:
        Detections, float64; of five numbers a row without landmarks.

    Raises:
        ValueError: if `rows` has another shape.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] not in (NUM_COLUMNS, NUM_COLUMNS_WITH_LANDMARKS):
        raise ValueError(f"`rows` must be [n, 5] or [n, 15]. Received: {rows.shape}")
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    # A file without detections has no columns to count, and nothing lacks landmarks in it.
    has_landmarks = rows.shape[1] > NUM_COLUMNS or not len(rows)
    landmarks = rows[:, NUM_COLUMNS:].reshape(len(rows), 5, 2) if has_landmarks else None
    return merging.Detections(boxes, rows[:, 4], landmarks)


def to_rows(detections: merging.Detections) -> np.ndarray:
    """Turns detections into rows of the text format; the inverse of `of_rows`.

    Args:
        detections: detections of one image.

    Returns:
        float64 `[n, 15]`, or `[n, 5]` without landmarks.
    """
    boxes = np.asarray(detections.boxes, np.float64)
    scores = np.asarray(detections.scores, np.float64)
    columns = [boxes[:, :2], boxes[:, 2:] - boxes[:, :2], scores[:, None]]
    if detections.landmarks is not None:
        columns.append(np.asarray(detections.landmarks, np.float64).reshape(len(boxes), 10))
    return np.concatenate(columns, axis=1)


def _parse_rows(body: str, where: str) -> np.ndarray:
    tokens = body.split()
    num_lines = body.count("\n") + bool(body and not body.endswith("\n"))
    # NumPy reads more than a file may hold, and room for the longest word in every place.
    is_plain = _PLAIN.fullmatch(body) and max(map(len, tokens), default=0) <= _LONGEST_NUMBER
    if not is_plain or len(tokens) != NUM_COLUMNS * num_lines:
        # Landmarks, blank lines, or a fault: line by line, which is slow.
        return _parse_lines(body, where)
    try:
        rows = np.array(tokens, np.float64).reshape(-1, NUM_COLUMNS)
    except ValueError:
        return _parse_lines(body, where)
    return rows if (np.abs(rows) <= _LARGEST).all() else _parse_lines(body, where)


def _parse_lines(body: str, where: str) -> np.ndarray:
    rows = []
    for number, line in enumerate(body.split("\n"), start=3):
        if not line.strip():
            continue
        row, words = annotation_text.numbers(line, _LARGEST), line.split()
        if row is None and all(_WORD.fullmatch(word) for word in words):
            annotation_text.fail(f"{where}:{number}", "finite numbers", line.strip())
        allowed = (len(rows[0]),) if rows else (NUM_COLUMNS, NUM_COLUMNS_WITH_LANDMARKS)
        if row is None or len(row) not in allowed:
            annotation_text.fail(f"{where}:{number}", "`x y width height score`", line.strip())
        rows.append(row)
    return np.array(rows, np.float64) if rows else np.zeros((0, NUM_COLUMNS))


def _check_title(title: str, where: str, name: str, known: frozenset[str]) -> None:
    # The official code goes by file names and some ports by this line: where they differ, one of them is wrong.
    parts = title.strip().replace("\\", "/").split("/")
    stem, suffix = os.path.splitext(parts[-1])
    stem = stem if suffix.lower() in IMAGE_SUFFIXES else parts[-1]
    own = name.split("/")
    # A title may leave folders out, or have those above the event.
    wanted = [*parts[:-1], stem][-2:]
    if own[-len(wanted) :] == wanted[-len(own) :]:
        return
    said = "/".join(wanted if len(wanted) > 1 else [*own[:-1], stem])
    is_known = said in known or any(other.endswith(f"/{said}") for other in known)
    if is_known or stem == own[-1]:
        said = annotation_text.cut(said)
        raise ValueError(f"{where}:1: the file is that of {name}, but its first line names {said}")


def _explain_layout(directory, names: Collection[str]) -> str:
    # Says what the files look like instead.
    images = {name.rpartition("/")[2] for name in names}
    events = {_event(name) for name in names}
    wanted = f"Wanted: EVENT/IMAGE.txt, as {next(iter(names))}.txt"
    depth = len(pathlib.Path(directory).parts)
    for path in sorted(pathlib.Path(directory).rglob("*.txt")):
        parts = path.with_suffix("").parts[depth:]
        if parts[-1] not in images:
            if parts[-1] in events:
                return f"{path} is named after an event: event and image are swapped. {wanted}"
            continue
        if len(parts) == 1:
            return f"{path} is not in the folder of its event. {wanted}"
        if parts[-2] not in events:
            return f"{path} is in {parts[-2]!r}, which is no event. {wanted}"
        if len(parts) > 2:
            return f"The files are further down, in {path.parent.parent}. {wanted}"
    return f"No file there has the name of an image. {wanted}"


def _event(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _describe_strangers(directory, known: frozenset[str]) -> str:
    # A misspelt name is the usual cause of a missing file.
    files = (path.relative_to(directory) for path in pathlib.Path(directory).rglob("*.txt"))
    strangers = sorted(str(path) for path in files if path.with_suffix("").as_posix() not in known)
    return f"; {len(strangers)} files belong to no image, as {strangers[0]}" if strangers else ""


def _describe_missing(missing: list[str], names: Collection[str]) -> str:
    total: dict[str, int] = {}
    for name in names:
        total[_event(name)] = total.get(_event(name), 0) + 1
    absent = dict.fromkeys(total, 0)
    for name in missing:
        absent[_event(name)] += 1
    events = [event for event in total if event and absent[event] == total[event]]
    text = f"{len(missing)} of {len(names)} images have no prediction file and count as having no detections"
    return f"{text}; {len(events)} of {len(total)} events are missing whole: {', '.join(events)}" if events else text
