"""Counts the rooms of the house: files, lines, and which room imports which, now and at earlier commits.

    python -m tools.rooms --commits=75c52b2~1,58d8bf1

prints Markdown: a row a room with the files and lines of each commit and of the files as they are, and what the room
imports now; below, the longest file and the longest body. `docs/architecture.md` holds what it printed, and
`tests/architecture_test.py`, which reads imports by the same functions, the arrows.
"""

from __future__ import annotations

import ast
import collections
import io
import pathlib
import subprocess
import tarfile
from collections.abc import Collection, Iterator, Mapping

from absl import app, flags

from keras_retinaface import program

_COMMITS = flags.DEFINE_list("commits", [], "Earlier commits to count too, oldest first.")

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("keras_retinaface", "data_pipeline")
# Modules that stand in no room: the door, and what everything stands on.
_NO_ROOM = "(no room)"


def module_name(path: str | pathlib.PurePath) -> str:
    """Returns the dotted name of a module by its path from the root."""
    parts = pathlib.PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, str]:
    """Returns the text of every module of the library and the pipeline as it is, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found[module_name(path.relative_to(ROOT).as_posix())] = path.read_text(encoding="utf-8")
    return found


def sources_at(commit: str) -> dict[str, str]:
    """Returns what `sources` did at a commit.

    Raises:
        ValueError: if there is no such commit here.
    """
    command = ["git", "archive", "--format=tar", commit, *PACKAGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    if done.returncode:
        raise ValueError(f"`commits` must be commits of this repository. Received: {commit!r}")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".py"):
                found[module_name(member.name)] = archive.extractfile(member).read().decode("utf-8")
    return found


def imports(tree: ast.Module, known: Collection[str]) -> dict[str, bool]:
    """Returns the modules among `known` that a module imports, and of each whether inside functions only."""
    at_top = {id(node) for statement in tree.body for node in _outside_functions(statement)}
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        for target in targets:
            while target not in known and "." in target:
                target = target.rpartition(".")[0]
            if target in known:
                found[target] = found.get(target, True) and id(node) not in at_top
    return found


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def bodies(tree: ast.Module) -> dict[str, int]:
    """Returns the lines of every function below its docstring, by name."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            found[node.name] = max(found.get(node.name, 0), node.end_lineno - first.lineno + 1)
    return found


def room_of(name: str, known: Collection[str]) -> str:
    """Returns the folder that a module stands in, without the library's name."""
    parts = name.split(".")
    if parts[0] != PACKAGES[0]:
        return parts[0]
    is_folder = len(parts) > 2 or any(other.startswith(f"{name}.") for other in known)
    return parts[1] if len(parts) > 1 and is_folder else _NO_ROOM


def _place(name: str, known: Collection[str]) -> str:
    room = room_of(name, known)
    return name.removeprefix(f"{PACKAGES[0]}.") if room == _NO_ROOM else room


class House:
    """The rooms of one state of the code.

    Attributes:
        files: modules by room.
        lines: numbers of lines by room.
        arrows: the rooms, and the modules in none, that a room imports, by room.
        longest_file: its name and lines.
        longest_body: name and lines of the function of most lines below its docstring.
    """

    def __init__(self, texts: Mapping[str, str]):
        self.files, self.lines = collections.Counter(), collections.Counter()
        self.arrows: dict[str, set[str]] = collections.defaultdict(set)
        lengths, functions = {}, {}
        for name, text in texts.items():
            room, tree = room_of(name, texts), ast.parse(text)
            lengths[name] = len(text.splitlines())
            self.files[room] += 1
            self.lines[room] += lengths[name]
            functions.update({f"{name}.{function}": length for function, length in bodies(tree).items()})
            self.arrows[room] |= {_place(target, texts) for target in imports(tree, texts)} - {room}
        self.longest_file = max(lengths.items(), key=lambda item: item[1])
        self.longest_body = max(functions.items(), key=lambda item: item[1])


def table(houses: Mapping[str, House]) -> str:
    """Returns houses side by side as Markdown; what a room imports is told of the last."""
    last = list(houses.values())[-1]
    rooms = sorted({room for house in houses.values() for room in house.files})
    lines = [f"| room | {' | '.join(houses)} | imports |", f"|---|{'---:|' * len(houses)}---|"]
    for room in rooms:
        counts = [
            f"{house.files[room]} / {house.lines[room]:,}" if house.files[room] else "-" for house in houses.values()
        ]
        lines.append(f"| {room} | {' | '.join(counts)} | {', '.join(sorted(last.arrows[room])) or '-'} |")
    totals = [f"{sum(house.files.values())} / {sum(house.lines.values()):,}" for house in houses.values()]
    lines.append(f"| together | {' | '.join(totals)} | |")
    for what, values in (
        ("arrows", [str(sum(map(len, house.arrows.values()))) for house in houses.values()]),
        ("longest file", [str(house.longest_file[1]) for house in houses.values()]),
        ("longest body", [str(house.longest_body[1]) for house in houses.values()]),
    ):
        lines.append(f"| {what} | {' | '.join(values)} | |")
    return "\n".join(lines)


def main(argv):
    """Prints the table that the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    try:
        houses = {commit: House(sources_at(commit)) for commit in _COMMITS.value}
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    print(table({**houses, "now": House(sources())}))


if __name__ == "__main__":
    program.run(main)
