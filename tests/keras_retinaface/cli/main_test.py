import json
import re
import subprocess
import sys

import pytest

import keras_retinaface
from keras_retinaface.cli import main
from tests import conftest


def _run(*arguments):
    command = [sys.executable, "-m", "keras_retinaface", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT, timeout=120)


def test_alone_it_teaches(capsys):
    for words in ([], ["help"], ["-h"], ["--help"]):
        assert main.main(["retinaface", *words]) == 0
        out, errors = capsys.readouterr()
        assert not errors and "retinaface detect --images=photo.jpg" in out
        for row in main.COMMANDS:
            assert re.search(rf"^  {row.word} +{re.escape(row.line)}$", out, re.MULTILINE)


def test_version(capsys):
    assert main.main(["retinaface", "--version"]) == 0
    assert capsys.readouterr().out == f"retinaface {keras_retinaface.__version__}\n"
    assert _run("--version").stdout == f"retinaface {keras_retinaface.__version__}\n"


@pytest.mark.parametrize(("word", "hint"), [("detcet", "did you mean detect? "), ("bogus", ""), ("--model=x", "")])
def test_an_unknown_word_is_named_with_those_there_are(capsys, word, hint):
    assert main.main(["retinaface", word]) == 2
    errors = capsys.readouterr().err
    words = ", ".join(row.word for row in main.COMMANDS)
    assert errors == f"retinaface: {hint}expected one of {words}. Received: {word!r}\n"


def test_detect_is_the_script(light_model, tmp_path):
    photo = conftest.ROOT / "examples" / "photos" / "astronaut.png"
    done = _run("detect", f"--model={light_model}", f"--images={photo}", f"--json={tmp_path / 'faces.jsonl'}")
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "faces.jsonl").read_text().splitlines()
    assert len(json.loads(line)["faces"]) == 1


def test_a_fault_is_told_by_the_name_that_was_typed():
    done = _run("detect", "--imagse=a")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("python -m keras_retinaface detect: Unknown command line flag 'imagse'.")


# Each in a process of its own: two commands may call a flag alike.
@pytest.mark.parametrize("word", [row.word for row in main.COMMANDS])
def test_help_needs_no_tensorflow(word):
    code = (
        "import sys\n"
        "from keras_retinaface.cli import main\n"
        "sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'scipy', 'matplotlib']))\n"
        f"main.main(['retinaface', {word!r}, '-h'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=conftest.ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: retinaface {word} ") and "_main.py " not in done.stdout
