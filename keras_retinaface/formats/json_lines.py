"""Files of one JSON value a line that hold, whatever ends the process, every line written so far."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator

# What Unix calls that which a process has open.
_OPEN = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/[^/]+/(task/[^/]+/)?fd/\d+")
_STREAMS = {"stdout": 1, "stderr": 2}
_MOST_LINKS = 40


def is_open_already(path: str | os.PathLike) -> bool:
    """Returns whether a path, or what it links to, names what a process has open, as /dev/stdout does."""
    return _open_name(path) is not None


@contextlib.contextmanager
def open(
    path: str | os.PathLike | None, *, keep: int = 0, on_begin: Callable[[], None] = lambda: None
) -> Iterator[Callable[[object], None]]:
    """Gives a function that appends a value as one line, which is in the file when it returns.

    The lines go straight into the file, so Ctrl-C, a full disk and kill -9 lose none. What an earlier run left there
    goes when the first line comes, or at an end without any: a run that fails before it has a result costs nobody's.
    What is open already, as /dev/stdout, is written behind what is there, for `>>` and `>` alike.

    Args:
        path: path of the file; `-` is standard output, None is nowhere. Its folder must exist.
        keep: bytes of an earlier run that stay, and the lines go behind.
        on_begin: called when what an earlier run left is gone, before the first line; of a regular file only.

    Yields:
        A function that takes a value ready for JSON; it raises `OSError` where the line cannot be written, and the
        file then ends with the line before.

    Raises:
        OSError: if the file cannot be opened to write, or another process writes it.
    """
    if path is None:
        yield lambda value: None
    elif path == "-":
        yield _write_to_standard_output
    else:
        is_new = not os.path.exists(path)
        descriptor = _descriptor(path)
        try:
            lines = _Lines(descriptor, os.fspath(path), keep, on_begin)
        except OSError:
            os.close(descriptor)
            raise
        try:
            yield lines.write
            lines.begin()
        finally:
            os.close(descriptor)
            if is_new and not lines.has_begun:
                with contextlib.suppress(OSError):
                    os.unlink(path)


class _Lines:
    """Lines of one open file; of a pipe, a device or what is open already nothing can be taken back."""

    def __init__(self, descriptor: int, path: str, keep: int, on_begin: Callable[[], None]):
        self._descriptor, self._path, self.has_begun = descriptor, path, False
        self._keep, self._on_begin = keep, on_begin
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode) and not is_open_already(path)
        if self._is_file:
            lock(descriptor, path)

    def begin(self) -> None:
        """Removes what an earlier run wrote."""
        if not self.has_begun and self._is_file:
            os.ftruncate(self._descriptor, self._keep)
            os.lseek(self._descriptor, self._keep, os.SEEK_SET)
            self._on_begin()
        self.has_begun = True

    def write(self, value: object) -> None:
        """Appends a line, whole or not at all."""
        line = memoryview(f"{json.dumps(value)}\n".encode("ascii"))
        self.begin()
        start = os.lseek(self._descriptor, 0, os.SEEK_CUR) if self._is_file else None
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except BaseException as error:  # Ctrl-C too
            if start is not None:
                os.ftruncate(self._descriptor, start)
                os.lseek(self._descriptor, start, os.SEEK_SET)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, self._path) from error
            raise


def _open_name(path: str | os.PathLike) -> str | None:
    """Returns the name that Unix gives to what a path leads to, if a process has that open."""
    path = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        if _OPEN.fullmatch(path):
            return path
        try:
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        except (OSError, ValueError):  # no link, which is the rule; a name with a zero byte is a ValueError
            return None
    return None


def _descriptor(path: str | os.PathLike) -> int:
    name = _open_name(path)
    if name is None:
        return os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    folder, number = os.path.split(name)
    if folder.startswith("/proc/") and folder.split("/")[2] not in ("self", "thread-self", str(os.getpid())):
        return os.open(name, os.O_WRONLY | os.O_APPEND)  # another process's
    return os.dup(_STREAMS[number] if number in _STREAMS else int(number))  # with the place where it writes


def lock(descriptor: int, path: str) -> None:
    """Keeps other processes from writing a file until it is closed, where the system has locks.

    Args:
        descriptor: descriptor of the open file.
        path: the file's path, for messages.

    Raises:
        OSError: if another process writes it.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another process writes it", path) from None
    except (ImportError, OSError):
        return


def _write_to_standard_output(value: object) -> None:
    try:
        sys.stdout.write(f"{json.dumps(value)}\n")
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error
