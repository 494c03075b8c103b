"""Where the images of a large run are: folders, globs, lists of paths and addresses, Parquet with bytes, tar files.

Anything that `fsspec` opens may stand for a path (`s3://`, `gs://`, `http://` through packages of their own); without
an address, files are opened directly. Nothing here decodes.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from keras_retinaface import extras
from keras_retinaface.bulk import pictures
from keras_retinaface.media import image_find

_LISTS, _TARS = (".txt", ".list", ".lst"), (".tar", ".tar.gz", ".tgz")
_NAME_COLUMNS = ("path", "name", "image_path", "file_name", "filename", "url", "key", "id")
# Rows of Parquet that are read at once.
_ROWS = 64


class Entry(NamedTuple):
    """An image of the plan.

    Attributes:
        path: what it is called in the results; itself, where the image is a file.
        container: the file that holds it, or empty.
        place: place of its bytes in a tar file, or of its row in Parquet.
        size: number of its bytes in a tar file; -1 in Parquet.
    """

    path: str
    container: str = ""
    place: int = 0
    size: int = 0


def is_address(path: str) -> bool:
    """Returns whether a path is one of `fsspec`."""
    return "://" in path


def find(pattern: str) -> Iterator[Entry]:
    """Yields the images that a folder, a glob, a list, a Parquet file or a tar file names.

    Raises:
        ValueError: if it names a container that cannot be read, or a package is missing; says which.
    """
    lower = pattern.lower()
    if not is_address(pattern):  # other machines start elsewhere
        pattern = os.path.abspath(pattern)
    try:
        if lower.endswith(_LISTS):
            yield from _in_list(pattern)
        elif lower.endswith(_TARS) or lower.endswith(".parquet"):
            for path in _expand(pattern):
                yield from _in_parquet(path) if lower.endswith(".parquet") else _in_tar(path)
        elif is_address(pattern):
            yield from map(Entry, _at_address(pattern))
        else:
            yield from map(Entry, image_find.find(pattern))
    except ValueError:
        raise
    except Exception as error:  # of any kind: filesystems behind addresses raise what they like
        raise ValueError(f"--input={pattern}: cannot be read: {pictures.reason(error)}") from error


@contextlib.contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """Opens a file, or what an address names.

    Raises:
        ValueError: if that takes a package that is not there.
    """
    if not is_address(path):
        with open(path, "rb") as file:
            yield file
        return
    try:
        with _fsspec().open(path, "rb") as file:
            yield file
    except ImportError as error:
        raise ValueError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise _not_found(error) from error


class Reader:
    """Reads the bytes of entries; of Parquet it keeps the rows that it is at."""

    def __init__(self):
        self._rows: tuple = (None, 0, 0, [])

    def read(self, entry: Entry) -> bytes:
        """Returns the bytes of an image."""
        if not entry.container:
            return _content(entry.path)
        if entry.size >= 0:
            if not _is_packed(entry.container):
                return _content(entry.container, entry.place, entry.size)
            with open_file(entry.container) as file:
                with tarfile.open(fileobj=file, mode="r:gz") as archive:
                    archive.fileobj.seek(entry.place)
                    return archive.fileobj.read(entry.size)
        return self._read_row(entry)

    def _read_row(self, entry: Entry) -> bytes:
        container, start, end, values = self._rows
        if container != entry.container or not start <= entry.place < end:
            start, values = _rows_at(entry.container, entry.place)
            self._rows = (entry.container, start, start + len(values), values)
        value = values[entry.place - start]
        if value is None:
            raise ValueError("the row holds no bytes")
        return value


def _content(path: str, place: int = 0, size: int | None = None) -> bytes:
    """Returns the bytes of a file, or of a part of it; of an address by one request."""
    if not is_address(path):
        with open(path, "rb") as file:
            file.seek(place)
            return file.read(-1 if size is None else size)
    files, inner = _filesystem(path)
    try:
        if size is None:
            return files.cat_file(inner)
        content = files.cat_file(inner, start=place, end=place + size)
    except FileNotFoundError as error:
        raise _not_found(error) from error
    # A server that knows no ranges sends the whole file.
    return content if len(content) <= size else content[place : place + size]


def _not_found(error: FileNotFoundError) -> FileNotFoundError:
    """Returns an error that says more than the address, and what fsspec made "not found" of where it was else."""
    return FileNotFoundError(pictures.reason(error.__cause__) if error.__cause__ else "no such file")


def _fsspec():
    return extras.load("fsspec", "an address")


def _expand(pattern: str) -> list[str]:
    """Returns the containers that a glob names, or the path itself."""
    if is_address(pattern):
        if "*" not in pattern:
            return [pattern]
        scheme = pattern.split("://")[0]
        return [f"{scheme}://{path.lstrip('/')}" for path in sorted(_filesystem(pattern)[0].glob(pattern))]
    return image_find.find(pattern)


def _filesystem(address: str) -> tuple:
    """Returns the filesystem of an address, and what that calls it.

    Raises:
        ValueError: if there is none; says which package brings it.
    """
    try:
        return _fsspec().core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{address}: {error}") from error


def _at_address(address: str) -> list[str]:
    files, _ = _filesystem(address)
    scheme = address.split("://")[0]
    if "*" in address:
        found = sorted(files.glob(address))
    elif scheme not in ("http", "https") and files.isdir(address):
        found = sorted(path for path in files.find(address) if path.lower().endswith(image_find.SUFFIXES))
    else:
        return [address]
    return [path if is_address(path) else files.unstrip_protocol(path) for path in found]


def _in_list(path: str) -> Iterator[Entry]:
    """Yields the lines of a text file that are not empty; paths that are not whole count from where it is read."""
    with open_file(path) as file:
        for number, line in enumerate(file):
            text = os.fsdecode(line if number else line.removeprefix(codecs.BOM_UTF8)).strip("\r\n")
            if text.strip():
                yield Entry(text if is_address(text) else os.path.abspath(text))


def _in_parquet(path: str) -> Iterator[Entry]:
    with open_file(path) as file:
        parquet = _open_parquet(file, path)
        _bytes_column(parquet, path)
        names = [column for column in _NAME_COLUMNS if column in parquet.schema_arrow.names]
        row = 0
        for batch in parquet.iter_batches(columns=names[:1]) if names else ():
            for value in batch.column(0).to_pylist():
                yield Entry(f"{path}#{row}" if value is None else str(value), path, row, -1)
                row += 1
        if not names:
            yield from (Entry(f"{path}#{row}", path, row, -1) for row in range(parquet.metadata.num_rows))


def _open_parquet(file: BinaryIO, path: str):
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not readable as Parquet: {str(error).splitlines()[0]}") from error


def _bytes_column(parquet, path: str) -> tuple[str, str]:
    """Returns the column with images, and the field of its bytes where it is a struct, as datasets write it."""
    import pyarrow as pa

    for field in parquet.schema_arrow:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            return field.name, ""
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return field.name, "bytes"
    raise ValueError(f"{path}: expected a column of bytes. Received: {', '.join(parquet.schema_arrow.names)}")


def _rows_at(path: str, row: int) -> tuple[int, list]:
    """Returns some rows of the column with images from a row on, and the number of the first."""
    with open_file(path) as file:
        parquet = _open_parquet(file, path)
        column, inner = _bytes_column(parquet, path)
        start = 0
        for group in range(parquet.num_row_groups):
            num_rows = parquet.metadata.row_group(group).num_rows
            if row < start + num_rows:
                for batch in parquet.iter_batches(_ROWS, row_groups=[group], columns=[column]):
                    if row < start + len(batch):
                        values = batch.column(0).to_pylist()
                        return start, [value and value[inner] for value in values] if inner else values
                    start += len(batch)
            start += num_rows
    raise ValueError(f"{path}: has no row {row}")


def _is_packed(path: str) -> bool:
    return path.lower().endswith((".gz", ".tgz"))


def _in_tar(path: str) -> Iterator[Entry]:
    """Yields the images in a tar file, as webdataset lays them, without reading what lies between."""
    with open_file(path) as file, tarfile.open(fileobj=file, mode="r:*") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(image_find.SUFFIXES):
                yield Entry(f"{path}#{member.name}", path, member.offset_data, member.size)
