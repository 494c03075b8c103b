"""`--help` of every command that there is shows every flag of it, and faults of the caller are one line."""

import ast
import json
import subprocess
import sys

import pytest

from tests import conftest

_FOLDERS = ("keras_retinaface", "data_pipeline", "tools", "examples", "benchmarks")
# One process imports TensorFlow, and every command is a fork of it.
_CODE = """
import json, os, runpy, sys, tempfile, traceback
import tensorflow, keras
import data_pipeline.dataset, data_pipeline.source, keras_retinaface.export.tflite, keras_retinaface.mesh.dense_loss
told = {}
for command in json.load(sys.stdin):
    with tempfile.TemporaryFile("w+") as out:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            sys.argv = [command, "--help"]
            status = 99
            try:
                run = runpy.run_path if command.endswith(".py") else runpy.run_module
                run(command, run_name="__main__")
            except SystemExit as error:
                status = error.code or 0
            except BaseException:
                traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        told[command] = [status, out.read()]
print("\\nRESULT", json.dumps(told))
"""


def _programs():
    """Returns the path of every file that is a program with flags, by what starts it."""
    paths = [
        *conftest.ROOT.glob("*_main.py"),
        *(path for name in _FOLDERS for path in (conftest.ROOT / name).rglob("*.py")),
    ]
    found = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in text and "program.run(" in text:
            parts = path.relative_to(conftest.ROOT)
            found[str(parts) if len(parts.parts) == 1 else ".".join(parts.with_suffix("").parts)] = path
    return found


def _defined(path):
    """Returns the names of the flags that a file defines itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("DEFINE_"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_no_command_starts_in_another_way():
    for name in _FOLDERS:
        for path in (conftest.ROOT / name).rglob("*.py"):
            assert "app.run(" not in path.read_text(encoding="utf-8") or path.name == "program.py", path


def test_help_shows_every_flag_of_every_command():
    programs = _programs()
    assert len(programs) > 25
    child = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps(list(programs)),
        capture_output=True,
        text=True,
        cwd=conftest.ROOT,
    )
    (line,) = (line for line in child.stdout.splitlines() if line.startswith("RESULT "))
    for name, (status, text) in json.loads(line[7:]).items():
        if "No module named" in text:  # a benchmark of a package that is not installed here
            assert name.startswith("benchmarks."), (name, text)
            continue
        assert status == 0 and text.count("usage: ") == 1, (name, text)
        for flag in _defined(programs[name]):
            assert f"  --{flag}=" in text or f"  --[no]{flag}\n" in text, (name, flag)
        module = conftest.ROOT / "keras_retinaface" / "cli" / f"{name.removesuffix('_main.py')}.py"
        for flag in _defined(module) if name.endswith("_main.py") else ():
            assert f"  --{flag}=" in text or f"  --[no]{flag}\n" in text, (name, flag)
        if name in ("detect_main.py", "evaluate_main.py"):
            # Of another module, for every script that builds a detector.
            for flag in ("model", "score_threshold", "image_size", "scales", "tile", "num_threads", "max_pixels"):
                assert f"  --{flag}=" in text, (name, flag)
        if name == "train_main.py":
            assert "  --batch_size=" in text and "\nConfig, training:\n" in text and "  --train_images=" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--imagse=a"], "detect_main.py: Unknown command line flag 'imagse'. Did you mean: images ?"),
        (["--max_faces=many"], "detect_main.py: flag --max_faces=many: invalid literal"),
        ([], "detect_main.py: give either --images or --video"),
    ],
)
def test_wrong_flags_are_one_line(flags, said):
    result = subprocess.run(
        [sys.executable, "detect_main.py", *flags], capture_output=True, text=True, cwd=conftest.ROOT, timeout=60
    )
    assert result.returncode == 1 and not result.stdout
    assert result.stderr.startswith(said) and result.stderr.count("\n") == 1


def test_tensorflow_starts_quietly_unless_the_user_says_otherwise(monkeypatch):
    # Before the import, as in every command; the other words are the user's.
    code = "from keras_retinaface import program; program.quiet(); import os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    for own, expected in ((None, "3"), ("0", "0")):
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        if own:
            monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", own)
        child = subprocess.run([sys.executable, "-c", code], cwd=conftest.ROOT, capture_output=True, text=True)
        assert child.stdout.split() == [expected], child.stderr
