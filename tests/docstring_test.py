"""Argument texts in docstrings have a subject: "path: path of the file", not "of the file"; commands stay whole."""

import ast
import re

import pytest

from tests import conftest

_WITHOUT_SUBJECT = re.compile(
    r"(of|to|from|for|in|on|that|with|by|between|into|behind|beside|under|over|above)\b", re.I
)
_ARGUMENT = re.compile(r"    (\w+): (.*)")


def _arguments(docstring):
    """Yields names and first lines of what stands under Args and Attributes."""
    section = None
    for line in docstring.splitlines():
        if re.fullmatch(r"\w+:", line):
            section = line
        elif section in ("Args:", "Attributes:") and (match := _ARGUMENT.fullmatch(line)):
            yield match.groups()


@pytest.mark.parametrize("folder", ["keras_retinaface", "data_pipeline", "tools"])
def test_argument_texts_have_a_subject(folder):
    bare, num_seen = [], 0
    for path in sorted((conftest.ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                for name, text in _arguments(ast.get_docstring(node) or ""):
                    num_seen += 1
                    if _WITHOUT_SUBJECT.match(text):
                        bare.append(f"{path.name}, {node.name}, {name}: {text}")
    assert not bare and num_seen > 5


def test_commands_in_help_keep_the_backslash_that_goes_on():
    lost, num_seen = [], 0
    for folder in ("keras_retinaface", "data_pipeline", "tools", "benchmarks", "examples"):
        for path in sorted((conftest.ROOT / folder).rglob("*.py")):
            tree = ast.parse(source := path.read_text(encoding="utf-8"))
            # Without its r, a string joins the two lines.
            if "\\\n" in (written := ast.get_source_segment(source, tree.body[0]) if tree.body else ""):
                num_seen += 1
                lost += [] if written.startswith("r") else [str(path)]
    assert not lost and num_seen > 5
