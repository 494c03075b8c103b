"""Files and folders that appear whole or not at all: the one place that renames. Knows nothing of what is written."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import re
import shutil
import socket
import zlib
from collections.abc import Iterator

_COUNTER = itertools.count()
# What this process writes at the moment; anything else under its process number is a dead process's.
_OPEN: set[pathlib.Path] = set()
_PARTIAL, _REPLACED = ".partial", ".replaced"
_NAME = re.compile(r"\.(partial|replaced)-[0-9a-f]{8}-[0-9]+-[0-9]+-[0-9a-f]{8}(\..*)?", re.DOTALL)
# What lay in a folder when this process first wrote there; to list a folder at every write takes minutes for thousands.
_LEFT: dict[pathlib.Path, list[pathlib.Path]] = {}


@contextlib.contextmanager
def file(path: str | os.PathLike, *, is_durable: bool = False) -> Iterator[pathlib.Path]:
    """Gives a path beside `path` to write to, and moves it there when the block ends without an error.

    What a killed process left beside `path` is removed first. A link is followed, so the file that it names is
    replaced; a pipe or device, such as /dev/stdout, is handed out as it is.

    Args:
        path: path of the file; its folder must exist.
        is_durable: whether the file's bytes are on the disk before it gets its name, as after a power cut.

    Yields:
        A path with the suffix of `path`, for libraries that go by it. The block must close what it opens there.

    Raises:
        OSError: if the folder is missing or cannot be written, or the disk is full; `path` is then as it was.
    """
    path = pathlib.Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    _sweep(path)
    partial = _beside(path, _PARTIAL)
    try:
        yield partial
        if is_durable:
            _sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        _OPEN.discard(partial)


@contextlib.contextmanager
def folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives an empty folder beside `path`, and moves it there when the block ends without an error.

    A folder that stands at `path` is removed only when the new one stands in its place.

    Args:
        path: path of the folder; its parent must exist.

    Yields:
        The path of the empty folder.

    Raises:
        OSError: if the parent cannot be written or the disk is full; `path` is then as it was.
    """
    path = pathlib.Path(os.path.realpath(path))
    _sweep(path)
    partial, replaced = _beside(path, _PARTIAL), _beside(path, _REPLACED)
    try:
        partial.mkdir()
        yield partial
        if path.exists():
            os.rename(path, replaced)
        try:
            os.rename(partial, path)
        except OSError:
            if replaced.exists():
                os.rename(replaced, path)
            raise
    finally:
        for left in (partial, replaced):
            _remove(left)
            _OPEN.discard(left)


def _beside(path: pathlib.Path, kind: str) -> pathlib.Path:
    # Not the whole name, which may be as long as a file system allows.
    beside = path.with_name(f"{kind}-{_owner(os.getpid())}-{next(_COUNTER)}-{_sum(path)}{path.suffix}")
    _OPEN.add(beside)
    return beside


def _owner(process: int) -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}-{process}"


def _sum(path: pathlib.Path) -> str:
    return f"{zlib.crc32(os.fsencode(path.name)):08x}"


def _sweep(path: pathlib.Path) -> None:
    """Removes what killed processes of this machine left beside a path; a folder put aside by one comes back."""
    ending = f"-{_sum(path)}{path.suffix}"
    for kind in (_REPLACED, _PARTIAL):
        for left in [left for left in _left(path.parent) if left.name.startswith(kind) and left.name.endswith(ending)]:
            owner, process = left.name[len(kind) + 1 :].split("-")[:2]
            if left in _OPEN or f"{owner}-{process}" != _owner(int(process)) or _is_running(int(process)):
                continue
            _LEFT[path.parent].remove(left)
            if kind == _REPLACED and not path.exists():
                os.rename(left, path)
            else:
                _remove(left)


def _left(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns what processes before this one may have left in a folder."""
    if folder not in _LEFT:
        names = os.listdir(folder) if folder.is_dir() else []
        _LEFT[folder] = [folder / name for name in names if _NAME.fullmatch(name)]
    return _LEFT[folder]


def _is_running(process: int) -> bool:
    if process == os.getpid():  # what it has open is in _OPEN; a container gives every start the same number
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
