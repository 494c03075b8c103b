"""What a command asks before it writes: whether the place takes it, and whether a file that it reads stands there."""

from __future__ import annotations

import os
import pathlib
import stat
import tempfile
from collections.abc import Callable, Iterable


class Originals:
    """Files that a command reads, which nothing that it writes may replace.

    Files are told by what they are on the disk, not by their names: links, other spellings of a path and the other
    case of a name on a disk that knows only one are the same file.

    Args:
        paths: files, or folders with all that is in them; those that do not exist are passed over.
    """

    def __init__(self, paths: Iterable[str | os.PathLike]):
        self._by_node: dict[tuple[int, int], str] = {}
        for path in paths:
            for file in pathlib.Path(path).rglob("*") if os.path.isdir(path) else [path]:
                node = _node(file)
                if node is not None:
                    self._by_node.setdefault(node, str(file))

    def check(self, path: str | os.PathLike, flag: str) -> None:
        """Makes sure that a path to write to is none of them.

        Raises:
            ValueError: if it is; names the flag and both.
        """
        original = self._by_node.get(_node(path))
        if original is not None:
            raise ValueError(f"--{flag} would overwrite what is read: {path} is {original}")

    def check_names(self, folder: str | os.PathLike, flag: str, name_of: Callable[[str], str | None]) -> None:
        """Makes sure that no file of a folder that may be written over is one of them.

        Args:
            folder: need not exist; folders in it do not count.
            flag: flag that names it.
            name_of: takes the name of a file there and returns the name that could be written in its place, or None.

        Raises:
            ValueError: if one is; names the flag and both.
        """
        if os.path.isdir(folder):
            for name in map(name_of, os.listdir(folder)):
                if name is not None:
                    self.check(os.path.join(folder, name), flag)

    def check_tree(self, folder: str | os.PathLike, flag: str) -> None:
        """Makes sure that no file in a folder, or in folders in it, is one of them; it need not exist; errors alike."""
        for where, _, files in os.walk(folder):
            for name in files:
                self.check(os.path.join(where, name), flag)


def make_folder(path: str | os.PathLike, flag: str) -> pathlib.Path:
    """Makes a folder where there is none, and tries whether files can be written there.

    Raises:
        ValueError: if not; names the flag.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return pathlib.Path(path)
    except FileExistsError:
        raise ValueError(f"--{flag}={path} cannot be written: Not a directory") from None
    except OSError as error:
        raise ValueError(f"--{flag}={path} cannot be written: {error.strerror}") from error


def check_file(path: str | os.PathLike, flag: str) -> None:
    """Tries whether a file can be written at a path whose folder exists.

    Raises:
        ValueError: if not; names the flag.
    """
    # Of a pipe, as /dev/stdout is one, the real path is no path.
    path = pathlib.Path(os.path.realpath(path) if os.path.isfile(path) or not os.path.exists(path) else path)
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if path.exists():
            os.close(os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)))
        if not path.exists() or path.is_file():
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        raise ValueError(f"--{flag}={path} cannot be written: {error.strerror}") from error


def _node(path: str | os.PathLike) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a name with a zero byte is a ValueError
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None
