"""What README says: files that it links, commands and flags that it names, what its first lines print."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests import conftest

README = conftest.ROOT / "README.md"
PAGES = [README, *sorted((conftest.ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_index_links_every_page():
    index = conftest.ROOT / "docs" / "README.md"
    linked = set(re.findall(r"\]\(([^)#/\s]+)\)", index.read_text(encoding="utf-8")))
    assert {page.name for page in PAGES[1:]} - {index.name} <= linked


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").split()) < 900


def _blocks(language):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in blocks if name == language]


def test_its_commands_take_these_flags():
    text = "\n".join(_blocks("sh")).replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("retinaface ")]
    assert {command[1] for command in commands} == {"detect", "train", "evaluate", "export"}
    for word in sorted({command[1] for command in commands}):
        done = subprocess.run(
            [sys.executable, "-m", "keras_retinaface", word, "--help"],
            capture_output=True,
            text=True,
            cwd=conftest.ROOT,
        )
        known = set(re.findall(r"^  --(?:\[no\])?(\w+)", done.stdout, re.MULTILINE)) | {"flagfile"}
        given = {
            re.match(r"--(\w+)", part)[1]
            for command in commands
            for part in command[2:]
            if command[1] == word and part.startswith("--")
        }
        assert done.returncode == 0 and given <= known, given - known


def test_its_first_lines_print_what_it_says(monkeypatch):
    monkeypatch.chdir(conftest.ROOT)
    (code, *_), (said, *_) = _blocks("python"), _blocks("")
    # As a newcomer runs it: in a process where TensorFlow is not loaded.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    numbers = [
        [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)] for text in (done.stdout, said)
    ]
    assert len(numbers[0]) == len(numbers[1]) > 6
    assert numbers[0] == pytest.approx(numbers[1], abs=0.5)
