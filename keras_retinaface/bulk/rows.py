"""Results as Parquet: one row an image, in part files that appear whole, and an index of them.

A folder of parts is read by what reads Parquet: `pandas.read_parquet("DIR")`, Spark, Ray, DuckDB's
`'DIR/part-*.parquet'`. Names that begin with `_` are ours; those who read a folder pass over them:

    part-00000.parquet   path, width, height, error, faces: a list of structs of box (x1, y1, x2, y2), score, landmarks
    _index.jsonl         one line a part: its name, rows, and how many of them are broken and how many faces they hold
    _run.json            the arguments, so that only the same run goes on here
    _pending.jsonl       rows that are in no part yet
    _lock                empty; locked by the process that writes here
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from absl import logging

from keras_retinaface import atomic, extras
from keras_retinaface.bulk import progress
from keras_retinaface.formats import json_lines

RUN, INDEX, PENDING, LOCK = "_run.json", "_index.jsonl", "_pending.jsonl", "_lock"
PLAN = "_plan.parquet"  # of a run of several machines; `plan` says what is in it
_PART = "part-*.parquet"
# Rows of a part of a single machine: some 10 MB, of which a reader skips what it does not want.
_PART_ROWS = 4096


def require() -> None:
    """Makes sure that Parquet can be written.

    Raises:
        ValueError: if not; says what to install.
    """
    extras.load("pyarrow.parquet", "Parquet")


def schema():
    """Returns the columns of a part."""
    import pyarrow as pa

    face = pa.struct(
        [
            ("box", pa.list_(pa.float32())),
            ("score", pa.float32()),
            ("landmarks", pa.list_(pa.list_(pa.float32()))),
        ]
    )
    columns = [("path", pa.string()), ("width", pa.int32()), ("height", pa.int32()), ("error", pa.string())]
    return pa.schema([*columns, ("faces", pa.list_(face))])


def text(name: str) -> str:
    """Returns a name as Parquet can hold it; bytes that are no UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def to_row(line: dict) -> dict:
    """Returns the row of a line that a job writes; of a broken image path and error alone are there."""
    row = {name: line.get(name) for name in ("width", "height", "error", "faces")}
    return {**row, "path": text(line["image"]), "error": None if row["error"] is None else text(row["error"])}


def write_part(path: str | os.PathLike, lines: Sequence[dict]) -> None:
    """Writes rows as one file, whole or not at all; one that stands there is replaced."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pylist([to_row(line) for line in lines], schema=schema())
    with atomic.file(path, is_durable=True) as partial:
        parquet.write_table(table, partial, compression="zstd")


def read_part(path: str | os.PathLike) -> Iterator[dict]:
    """Yields of each row of a part what counts it: `{"image", "faces"}` or `{"image", "error"}`.

    Raises:
        ValueError: if it is no part of ours; names it.
    """
    import pyarrow as pa
    from pyarrow import compute, parquet

    try:
        with parquet.ParquetFile(path) as file:
            table = file.read(columns=["path", "error", "faces"])
        counts = compute.fill_null(compute.list_value_length(table["faces"]), 0).to_pylist()
        names, errors = table["path"].to_pylist(), table["error"].to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a part that this program writes: {str(error).splitlines()[0]}") from error
    for name, error, count in zip(names, errors, counts):
        yield {"image": name, "error": error} if error is not None else {"image": name, "faces": range(count)}


class Index:
    """The index of a folder of parts.

    Args:
        folder: folder of the parts.
    """

    def __init__(self, folder: pathlib.Path):
        self._path = folder / INDEX

    def read(self) -> dict[str, dict]:
        """Returns the entries by the parts' names; a line that was cut off is none."""
        entries = {}
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    entries[entry["part"]] = entry
        return entries

    def write(self, entries: dict[str, dict]) -> None:
        """Writes it anew."""
        with atomic.file(self._path) as partial:
            partial.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries.values()), encoding="ascii")

    def append(self, entry: dict) -> None:
        """Adds a part, in one write."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, f"{json.dumps(entry)}\n".encode("ascii"))
        finally:
            os.close(descriptor)


def entry_of(name: str, lines) -> dict:
    """Returns the entry of a part in the index."""
    entry = {"part": name, "rows": 0, "broken": 0, "faces": 0}
    for line in lines:
        entry["rows"] += 1
        entry["broken"] += "error" in line
        entry["faces"] += len(line.get("faces", ()))
    return entry


def parts(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the parts of a folder, in order."""
    return sorted(folder.glob(_PART))


@contextlib.contextmanager
def hold(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from writing a run into a folder.

    Raises:
        OSError: if another process writes one there.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        json_lines.lock(descriptor, str(folder))
        yield
    finally:
        os.close(descriptor)


def begin(folder: pathlib.Path, arguments: dict, flag: str, *, is_restart: bool) -> None:
    """Makes a folder ready for the parts of a run, new or to be gone on with.

    Raises:
        ValueError: if it holds the parts of another run, or Parquet that is none of ours.
    """
    if is_restart:
        for path in (folder / RUN, folder / PENDING, folder / INDEX, *parts(folder)):  # the arguments first
            path.unlink(missing_ok=True)
    if _has_begun(folder) and progress.check(folder / RUN, arguments, str(folder)):
        return
    # What begins with a dot or `_` is ours, as a part that kill -9 left half written.
    strangers = [path.name for path in folder.glob("*.parquet") if path.name[0] not in "._"]
    if strangers:
        raise ValueError(f"--{flag}={folder} holds Parquet of something else: {min(strangers)}")
    (folder / PENDING).unlink(missing_ok=True)
    progress.save(folder / RUN, arguments)


def _has_begun(folder: pathlib.Path) -> bool:
    """Returns whether a run left more than its arguments; one with a misspelt model leaves these alone."""
    pending = folder / PENDING
    return bool(parts(folder)) or (folder / PLAN).exists() or (pending.exists() and pending.stat().st_size > 0)


@contextlib.contextmanager
def open_parts(
    folder: str, arguments: dict, *, flag: str, is_restart: bool = False, part_rows: int = _PART_ROWS
) -> Iterator[tuple[Callable[[dict], None], progress.Done]]:
    """Gives what writes rows behind those of earlier starts of the same run, and which these are.

    A row is on the disk when the function returns, first in a file of lines, later in a part.

    Args:
        folder: folder of the parts; must exist.
        arguments: what must be the same to go on, ready for JSON.
        flag: flag that names the folder.
        is_restart: whether to begin anew.
        part_rows: rows of a part.

    Raises:
        ValueError: as `begin` and `read_part`.
        OSError: as `hold`.
    """
    place, done = pathlib.Path(folder), progress.Done()
    with hold(place), contextlib.ExitStack() as stack:
        begin(place, arguments, flag, is_restart=is_restart)
        index, number = _recount(place, done)
        waiting = _Waiting(place, index, number, done, part_rows)
        stack.callback(waiting.close)
        yield waiting.write, done
        waiting.flush()
        (place / PENDING).unlink(missing_ok=True)


def _recount(place: pathlib.Path, done: progress.Done) -> tuple[Index, int]:
    """Counts what the parts hold, and makes the index say the same; returns it with the number of the next part."""
    index, there = Index(place), parts(place)
    for name in sorted(index.read().keys() - {path.name for path in there}):
        logging.warning("%s is gone; what it held is done again", place / name)
    entries = {}
    for path in there:
        lines = list(read_part(path))
        entries[path.name] = entry_of(path.name, lines)
        for line in lines:
            done.add(line)
    if there or (place / INDEX).exists():
        index.write(entries)
    numbers = [int(digits) for path in there if (digits := path.stem.rpartition("-")[2]).isdecimal()]
    return index, max(numbers, default=-1) + 1


class _Waiting:
    """Rows that become a part when there are enough."""

    def __init__(self, place: pathlib.Path, index: Index, number: int, done: progress.Done, part_rows: int):
        self._place, self._index, self._number, self._part_rows = place, index, number, part_rows
        self._lines, end = [], 0
        if (place / PENDING).exists():
            in_parts = set(done.names)
            for line, place_behind in progress.read_lines(place / PENDING):
                end = place_behind
                # Killed after a part was there and before its rows were taken out of here.
                if text(line["image"]) not in in_parts:
                    self._lines.append(line)
                    done.add({**line, "image": text(line["image"])})
        self._stack = contextlib.ExitStack()
        self._open(end)

    def _open(self, keep: int) -> None:
        self._append = self._stack.enter_context(json_lines.open(self._place / PENDING, keep=keep))

    def write(self, line: dict) -> None:
        self._append(line)
        self._lines.append(line)
        if len(self._lines) >= self._part_rows:
            self.flush()

    def flush(self) -> None:
        """Makes a part of what waits."""
        if self._lines:
            name = f"part-{self._number:05d}.parquet"
            write_part(self._place / name, self._lines)
            self._index.append(entry_of(name, self._lines))
            self._number, self._lines = self._number + 1, []
            self._stack.close()
            os.truncate(self._place / PENDING, 0)
            self._open(0)

    def close(self) -> None:
        self._stack.close()
