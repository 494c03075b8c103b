"""Runs of a script's `main` with several sets of flags in one process, which is started and imports once."""

import json
import subprocess
import sys

from tests import conftest

_CODE = """
import contextlib, importlib, io, json, logging, sys
import absl.logging
from absl import app, flags
from absl.testing import flagsaver
absl.logging.get_absl_logger().propagate = False
from keras_retinaface import program
program.quiet()
script = importlib.import_module(sys.argv[1])
for arguments in json.loads(sys.argv[2]):
    out, errors = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(errors)
    handler.setLevel(logging.WARNING)
    absl.logging.get_absl_logger().addHandler(handler)
    with flagsaver.flagsaver(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            flags.FLAGS([sys.argv[1], *arguments])
            status = script.main([sys.argv[1]])
        except app.UsageError as error:
            status = 1
            errors.write(f"{error}\\n")
    absl.logging.get_absl_logger().removeHandler(handler)
    print("\\nRESULT", json.dumps([status, out.getvalue(), errors.getvalue()]), flush=True)
"""


def run_in_turn(script, *runs):
    """Returns (status, output, errors) of each run; what the progress bar and tables say is among the errors.

    Args:
        script: name of the module.
        runs: flags of each.
    """
    runs = [[str(argument) for argument in run] for run in runs]
    command = [sys.executable, "-c", _CODE, script, json.dumps(runs)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT, timeout=300, check=False)
    lines = [line[7:] for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(lines) == len(runs), result.stderr
    return [tuple(json.loads(line)) for line in lines]
