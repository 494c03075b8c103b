"""Commands as forks of a process that has imported TensorFlow: all that a user's does but ten seconds of imports.

Commands whose start is what is tested, or that are killed, are processes of their own instead.
"""

import atexit
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile

from tests import conftest

# As `program.quiet` has it for a user; the tests' own process lets TensorFlow say more.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def run(*arguments, cwd=conftest.ROOT, timeout=300, log=None, environment=None):
    """Runs `python ARGUMENTS`, a script or `-m` and a module; returns what `subprocess.run` does, with text.

    Args:
        *arguments: of Python.
        cwd: folder to run in.
        timeout: seconds until it is killed.
        log: a file for both its output and its errors.
        environment: changes of this process's.
    """
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        outputs = [str(log)] * 2 if log else [f"{folder}/out", f"{folder}/err"]
        asked = [list(map(str, arguments)), str(cwd), {**os.environ, **_QUIET, **(environment or {})}, timeout, outputs]
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        texts = []
        for path in outputs:
            with open(path) as file:
                texts.append(file.read())
    return subprocess.CompletedProcess(arguments, status, *texts)


@functools.cache
def _server():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked"],
        cwd=conftest.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **_QUIET},
        text=True,
    )
    atexit.register(process.communicate)
    return process


def _import_what_takes_long():
    # Whatever starts a thread or runs an op here would be broken in the forks; flags would be another program's.
    import tensorflow  # noqa: F401, I001
    from data_pipeline import dataset  # noqa: F401
    from keras_retinaface import training  # noqa: F401
    from keras_retinaface.export import tflite  # noqa: F401


def _become(arguments, cwd, environment, timeout, outputs):
    """Turns a fork into the command; leaves as it does."""
    signal.alarm(timeout)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    for number, path in ((0, os.devnull), *zip((1, 2), outputs)):
        opened = os.open(path, flags if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
        flags &= ~os.O_TRUNC
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if arguments[0] == "-m":
        sys.path[0], sys.argv = cwd, arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = os.path.dirname(os.path.abspath(arguments[0])), list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


def _serve():
    _import_what_takes_long()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(*json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
