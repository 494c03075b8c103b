"""What an unfinished run leaves, so that the same command goes on: its arguments beside its lines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator

from keras_retinaface import atomic
from keras_retinaface.formats import json_lines

_FORMAT = 1
_CHUNK = 1 << 20


@dataclasses.dataclass
class Done:
    """What earlier starts of a run came to.

    Attributes:
        broken: how many of those that `pop` gave could not be had.
        faces: found in the others of them.
    """

    broken: int = 0
    faces: int = 0
    # Of each image the faces each time that it is done, None where it could not be had.
    _counts: dict[str, tuple[int | None, ...]] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> dict[str, int]:
        """Images that are done and were not popped, and how often each is."""
        return {name: len(counts) for name, counts in self._counts.items()}

    def add(self, line: dict) -> None:
        """Takes a line in."""
        count = None if "error" in line else len(line.get("faces", ()))
        self._counts[line["image"]] = (*self._counts.get(line["image"], ()), count)

    def pop(self, name: str) -> bool:
        """Returns whether an image is done, once for each time that it is, and then counts it."""
        if name not in self._counts:
            return False
        first, *others = self._counts.pop(name)
        if others:
            self._counts[name] = tuple(others)
        self.broken += first is None
        self.faces += first or 0
        return True


def run_file(path: str | os.PathLike) -> pathlib.Path:
    """Returns where a run that writes lines to a path keeps its arguments until it is through; links are followed."""
    path = pathlib.Path(os.path.realpath(path))
    return path.with_name(f"{path.name}.run")


def forget(path: str | os.PathLike) -> None:
    """Removes what an unfinished run left beside a path, for what is written there is of something else."""
    run_file(path).unlink(missing_ok=True)


def model_sum(model: str) -> str | None:
    """Returns what tells a model from another that is put in its place, or None of presets.

    Args:
        model: a preset, a file or a folder, of which the files with weights count.
    """
    path = pathlib.Path(model)
    files = [path] if path.is_file() else [path / name for name in ("model.keras", "saved_model.pb")]
    value = 0
    for file in files:
        with contextlib.suppress(OSError), open(file, "rb") as opened:
            while content := opened.read(_CHUNK):
                value = zlib.crc32(content, value)
    return f"{value:08x}" if path.exists() else None


def save(path: pathlib.Path, arguments: dict) -> None:
    """Writes the arguments of a run."""
    with atomic.file(path) as partial:
        partial.write_text(f"{json.dumps({'format': _FORMAT, 'arguments': arguments}, indent=1)}\n", encoding="ascii")


def check(path: pathlib.Path, arguments: dict, what: str, restart: str = "--restart") -> bool:
    """Returns whether a run was begun there, with these arguments.

    Args:
        path: path of the file of its arguments.
        arguments: arguments of today, ready for JSON.
        what: is gone on with, for messages.
        restart: the flag that begins anew.

    Raises:
        ValueError: if it was begun with others, which are named, or its file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        begun = content["arguments"] if content["format"] == _FORMAT else None
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not what an unfinished run leaves; begin anew by {restart}: {error}") from error
    if not isinstance(begun, dict):
        raise ValueError(f"{path}: left by another version of this program; begin anew by {restart}")
    now = json.loads(json.dumps(arguments))
    changed = [name for name in {**begun, **now} if begun.get(name) != now.get(name)]
    if changed:
        told = "; ".join(f"{name} was {_told(begun.get(name))} and is {_told(now.get(name))}" for name in changed)
        raise ValueError(f"{what}: begun with other arguments; go on with those, or begin anew by {restart}: {told}")
    return True


def read_lines(path: str | os.PathLike) -> Iterator[tuple[dict, int]]:
    """Yields the lines that a run wrote, each with the place behind it; one that it did not finish ends them.

    Raises:
        ValueError: if another line is not of a run; names file and line.
    """
    end = 0
    with open(path, "rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                return
            end += len(text)
            try:
                line = json.loads(text)
                os.fsencode(line["image"])
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{path}:{number}: expected a line that detect writes. Received: {text[:80]!r}"
                ) from None
            yield line, end


@contextlib.contextmanager
def open_lines(
    path: str | None, arguments: dict, *, is_restart: bool = False
) -> Iterator[tuple[Callable[[dict], None], Done]]:
    """Gives what writes lines behind those that an unfinished run of the same arguments left, and which these are.

    While the run is not through, `FILE.run` holds its arguments; without it, or where the file is gone, a file that
    stands there is of a run that was through, and is written anew. What the block raises leaves all for the next start.

    Args:
        path: path of the file; `-` is standard output and None nowhere, of which nothing can be gone on with, as of
            /dev/stdout.
        arguments: what must be the same to go on, ready for JSON.
        is_restart: whether to begin anew.

    Raises:
        ValueError: as `check` and `read_lines`.
    """
    done, keep = Done(), 0
    is_nowhere = path is None or path == "-" or json_lines.is_open_already(path)
    is_kept = not is_nowhere and (os.path.isfile(path) or not os.path.exists(path))
    if not is_kept:
        with json_lines.open(path) as write:
            yield write, done
        return
    left = run_file(path)
    has_begun = not is_restart and os.path.isfile(path) and check(left, arguments, str(path))
    if has_begun:
        for line, end in read_lines(path):
            done.add(line)
            keep = end
    begin = (lambda: None) if has_begun else (lambda: save(left, arguments))
    with json_lines.open(os.path.realpath(path) if os.path.islink(path) else path, keep=keep, on_begin=begin) as write:
        yield write, done
    left.unlink(missing_ok=True)


def _told(value: object) -> str:
    return "not given" if value is None else json.dumps(value)
