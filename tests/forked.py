"""Commands as forks of a process that has imported TensorFlow: all that a user's does but ten seconds of imports.

Commands whose start is what is tested, or that are killed, are processes of their own instead.
"""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile

# Not conftest's: it lets flags of several programs share a name, which a user's process does not.
_ROOT = pathlib.Path(__file__).resolve().parent.parent
# As `program.quiet` has it for a user; the tests' own process lets TensorFlow say more.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def run(*arguments, cwd=_ROOT, timeout=600):
    """Runs `python ARGUMENTS`, a script or `-m` and a module; returns what `subprocess.run` does, with text.

    Args:
        *arguments: arguments of Python.
        cwd: folder to run in.
        timeout: seconds until it is killed, with whatever it started.

    Raises:
        subprocess.TimeoutExpired: if it was.
    """
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"{folder}/out", f"{folder}/err"]
        asked = [list(map(str, arguments)), str(cwd), {**os.environ, **_QUIET}, timeout, outputs]
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        if not answer:
            _server.cache_clear()
            raise RuntimeError(f"tests.forked ended with status {server.wait()}")
        status, texts = int(answer), []
        for path in outputs:
            with open(path) as file:
                texts.append(file.read())
    if status == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(arguments, timeout, *texts)
    return subprocess.CompletedProcess(arguments, status, *texts)


@functools.cache
def _server():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked"],
        cwd=_ROOT,
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
    os.setsid()
    signal.alarm(timeout)
    for number, path in enumerate([os.devnull, *outputs]):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
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
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        print(status, flush=True)


if __name__ == "__main__":
    _serve()
