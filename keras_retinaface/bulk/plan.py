"""Which images a run of several machines does, in units that one worker does at a time; written once, read by all.

    _plan.parquet   path, container, place, size of each image; a row group is a unit, and unit 7 becomes part-00007

A unit's part is whole or not there, so what was done twice, as after a machine was lost, is there once.
"""

from __future__ import annotations

import itertools
import operator
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from keras_retinaface import atomic
from keras_retinaface.bulk import rows, source

PLAN = rows.PLAN
# Units: enough for many workers to end together, of which none is so long that its loss hurts.
_MOST_IMAGES, _LEAST_IMAGES, _UNITS = 4096, 8, 64
# Images between two looks at which of them came before; the first of two that are the same counts.
_CHUNK = 1 << 17
# Columns with few different values; a dictionary of the others is built in vain.
_REPEATED = ["container", "size"]


def unit_size(num_images: int) -> int:
    """Returns how many images a unit has."""
    return min(_MOST_IMAGES, max(_LEAST_IMAGES, -(-num_images // _UNITS)))


def write(folder: pathlib.Path, entries: Iterable[source.Entry]) -> tuple[int, int]:
    """Writes the plan of a run, whole or not at all; an image that comes again is left out.

    Args:
        folder: folder of the run.
        entries: any number; a few are held.

    Returns:
        How many images it has, and how many came again.
    """
    import pyarrow as pa
    from pyarrow import parquet

    seen, num_images, num_twice = _Seen(), 0, 0
    with atomic.file(folder / PLAN) as partial, atomic.file(folder / f"_all{PLAN}") as draft:
        with parquet.ParquetWriter(draft, _schema(), compression="none", use_dictionary=_REPEATED) as writer:
            for chunk in _chunks(entries):
                is_new = seen.add([_identity(entry) for entry in chunk])
                if not is_new.all():
                    chunk = [entry for entry, is_kept in zip(chunk, is_new) if is_kept]
                num_images, num_twice = num_images + len(chunk), num_twice + len(is_new) - len(chunk)
                writer.write_table(_table(chunk))
        size = unit_size(num_images)
        with (
            parquet.ParquetFile(draft) as file,
            parquet.ParquetWriter(partial, _schema(), use_dictionary=_REPEATED) as writer,
        ):
            held = pa.Table.from_batches([], _schema())
            for batch in file.iter_batches(_CHUNK):
                held = pa.concat_tables([held, pa.Table.from_batches([batch])])
                whole = len(held) // size * size
                if whole:
                    writer.write_table(held.slice(0, whole), row_group_size=size)
                held = held.slice(whole)
            if len(held):
                writer.write_table(held, row_group_size=size)
    (folder / f"_all{PLAN}").unlink(missing_ok=True)
    return num_images, num_twice


class Plan:
    """The plan of a run.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: str | os.PathLike):
        from pyarrow import parquet

        self._file = parquet.ParquetFile(pathlib.Path(folder) / PLAN)
        self.num_images, self.num_units = self._file.metadata.num_rows, self._file.num_row_groups

    def size(self, unit: int) -> int:
        """Returns how many images a unit has."""
        return self._file.metadata.row_group(unit).num_rows

    def read(self, unit: int) -> list[source.Entry]:
        """Returns the images of a unit."""
        table = self._file.read_row_group(unit)
        columns = [table[name].to_pylist() for name in source.Entry._fields]
        return [source.Entry(os.fsdecode(path), os.fsdecode(held_by), *rest) for path, held_by, *rest in zip(*columns)]


def part_name(unit: int) -> str:
    """Returns the name of the part that a unit becomes."""
    return f"part-{unit:05d}.parquet"


def missing(folder: pathlib.Path, num_units: int) -> list[int]:
    """Returns the units whose parts are not there yet."""
    there = {path.name for path in rows.parts(folder)}
    return [unit for unit in range(num_units) if part_name(unit) not in there]


class _Seen:
    """64 bits of each identity so far, sorted in runs that double, so that ten million take 80 MB and seconds."""

    def __init__(self):
        self._runs: list[np.ndarray] = []

    def add(self, identities: list[str]) -> np.ndarray:
        """Returns which of some identities are new, and counts them in."""
        keys = np.fromiter(map(hash, identities), np.int64, len(identities))
        is_new = np.zeros(len(keys), bool)
        # Sorted keys are looked up several times as fast as they come.
        keys, first = np.unique(keys, return_index=True)
        is_added = np.ones(len(keys), bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            is_added &= run[places] != keys
        is_new[first[is_added]] = True
        added = keys[is_added]
        while self._runs and len(self._runs[-1]) <= len(added):
            added = np.sort(np.concatenate([self._runs.pop(), added]), kind="stable")
        if len(added):
            self._runs.append(added)
        return is_new


def _identity(entry: source.Entry) -> str:
    """Returns what tells images apart; names in Parquet need not, as those of shards that each count from 0."""
    return f"{entry.container}\0{entry.place}\0{entry.path}" if entry.container else entry.path


def _schema():
    import pyarrow as pa

    # Bytes, for a path need not be UTF-8.
    return pa.schema([("path", pa.binary()), ("container", pa.binary()), ("place", pa.int64()), ("size", pa.int64())])


def _table(entries: list[source.Entry]):
    import pyarrow as pa

    # By place: zip(*entries), with as many arguments as entries, takes most of a plan's time.
    columns = [list(map(operator.itemgetter(place), entries)) for place in range(len(source.Entry._fields))]
    arrays = [_to_bytes(columns[0])]
    for column, kind in zip(columns[1:], _schema().types[1:]):
        if column and column.count(column[0]) == len(column):  # of files that hold one image each
            value = os.fsencode(column[0]) if isinstance(column[0], str) else column[0]
            arrays.append(pa.repeat(pa.scalar(value, kind), len(column)))
        else:
            arrays.append(_to_bytes(column) if column and isinstance(column[0], str) else pa.array(column, kind))
    return pa.table(arrays, schema=_schema())


def _to_bytes(texts: Sequence[str]):
    """Returns texts as an array of bytes."""
    import pyarrow as pa

    try:
        return pa.array(texts, pa.string()).cast(pa.binary())  # four times as fast
    except UnicodeEncodeError:
        return pa.array([*map(os.fsencode, texts)], pa.binary())


def _chunks(entries: Iterable[source.Entry]) -> Iterator[list[source.Entry]]:
    iterator = iter(entries)
    return iter(lambda: list(itertools.islice(iterator, _CHUNK)), [])
