import os
import signal
import subprocess
import sys
import time

import pytest

from keras_retinaface import stopping
from tests import conftest

_CODE = """
import signal, sys, time
from keras_retinaface import stopping
def work():
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        print("ended", flush=True)
sys.exit(stopping.run(work, hint="; go on"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_by_its_own_way_out(number):
    child = subprocess.Popen(
        [sys.executable, "-c", _CODE], cwd=conftest.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "started\n"
    child.send_signal(number)
    output, errors = child.communicate(timeout=30)
    assert output == "ended\n" and child.returncode == 128 + number
    assert errors.count("\n") == 1 and errors.endswith("stopped; go on\n")


def test_a_pipe_that_nobody_reads_ends_a_command_without_a_word():
    code = (
        "import sys\nfrom keras_retinaface import stopping\nsys.exit(stopping.run(lambda: print('x' * 9, flush=True)))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    child = subprocess.run([sys.executable, "-c", code], cwd=conftest.ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (child.returncode, child.stderr) == (141, b"")


def test_what_the_environment_set_stays(capsys):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as nohup does with SIGHUP
    try:
        with stopping.as_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            with pytest.raises(stopping.Terminated) as error:
                os.kill(os.getpid(), signal.SIGHUP)
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopping.status_of(error.value) == 129 and stopping.status_of(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_errors_become_a_status():
    def fail(error):
        raise error

    assert stopping.run(lambda: 3) == 3
    assert stopping.run(lambda: fail(ValueError("wrong"))) == 1 and stopping.run(lambda: fail(OSError("full"))) == 1
    with pytest.raises(ZeroDivisionError):
        stopping.run(lambda: 1 / 0)
