"""The script `run` in folders and with words that people have."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = ("requirements.txt", "requirements-current.txt", "requirements-dev.txt", "requirements-nodeps.txt")


def _run(folder, *arguments, **environment):
    """Runs the script of `folder` where nothing can be fetched."""
    environment = {**os.environ, "PIP_NO_INDEX": "1", "STACK": "", "PYTHON": sys.executable, **environment}
    return subprocess.run([folder / "run", *arguments], env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    """A folder with a name as people give it, that holds the script and requirements without a package."""
    folder = tmp_path / "Größe & 'mehr' davon"
    folder.mkdir()
    shutil.copy(ROOT / "run", folder)
    for name in FILES:
        (folder / name).write_text("# none\n")
    return folder


def test_a_folder_with_a_space_and_an_umlaut_gets_its_environment_once(folder):
    first, second = (_run(folder, "python", "-c", "import sys; print(sys.prefix)") for _ in range(2))
    for done in (first, second):
        assert (done.returncode, done.stdout) == (0, f"{folder}/.venv\n"), done.stderr
    assert "installing into .venv" in first.stderr and not second.stderr


@pytest.mark.long
def test_a_failed_installation_is_no_environment(folder):
    (folder / FILES[0]).write_text("no-such-package-anywhere==1\n")
    for _ in range(2):
        done = _run(folder, "python", "-c", "print(1)")
        assert done.returncode == 1 and "no-such-package-anywhere" in done.stderr and not done.stdout


def test_unknown_words_are_named(folder):
    done = _run(folder, "bogus")
    assert done.returncode == 2 and "Received: bogus" in done.stderr and not done.stdout
    for words in ((), ("--help",), ("-h",)):
        done = _run(folder, *words)
        assert done.returncode == 0 and "demo | test" in done.stdout and not done.stderr


def test_an_unusable_python_is_named(folder):
    done = _run(folder, "python", PYTHON="/no such/python")
    assert done.returncode == 1 and "needs Python 3.9 to 3.13. Received: PYTHON=/no such/python" in done.stderr
