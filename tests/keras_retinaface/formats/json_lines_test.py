import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from keras_retinaface.formats import json_lines
from tests import conftest


def _read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_there_at_once_and_the_old_ones_go_with_the_first(tmp_path):
    path = tmp_path / "faces.jsonl"
    path.write_text('{"of": "an earlier run"}\n' * 9)
    with json_lines.open(path) as write:
        assert len(_read(path)) == 9
        write({"image": "a"})
        assert _read(path) == [{"image": "a"}]
        write({"image": "b\udcff\n"})
        assert _read(path) == [{"image": "a"}, {"image": "b\udcff\n"}]
    with json_lines.open(path):
        pass
    assert path.read_text() == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_costs_no_lines(tmp_path, error):
    path = tmp_path / "faces.jsonl"
    with pytest.raises(error), json_lines.open(path) as write:
        write(1)
        raise error
    assert _read(path) == [1]
    # Before the first line nothing is known that could replace what is there, nor that deserves a file.
    with pytest.raises(error), json_lines.open(path):
        raise error
    assert _read(path) == [1]
    with pytest.raises(error), json_lines.open(tmp_path / "new.jsonl"):
        raise error
    assert not (tmp_path / "new.jsonl").exists()


def test_kill_costs_no_lines(tmp_path):
    path = tmp_path / "faces.jsonl"
    code = """
import os, signal, sys
from keras_retinaface.formats import json_lines
with json_lines.open(sys.argv[1]) as write:
    write("x" * 100000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    child = subprocess.run([sys.executable, "-c", code, str(path)], cwd=conftest.ROOT)
    assert child.returncode == -signal.SIGKILL and _read(path) == ["x" * 100000]


def test_a_full_disk_leaves_whole_lines(tmp_path):
    path = tmp_path / "faces.jsonl"
    code = """
import resource, sys
from keras_retinaface.formats import json_lines
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with json_lines.open(sys.argv[1]) as write:
    for number in range(1000):
        write({"number": number})
"""
    child = subprocess.run([sys.executable, "-c", code, str(path)], cwd=conftest.ROOT, capture_output=True, text=True)
    assert "File too large" in child.stderr
    lines = _read(path)
    assert lines == [{"number": number} for number in range(len(lines))] and len(path.read_text()) > 980


def test_a_pipe_takes_lines(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_text()))
    reader.start()
    with json_lines.open(path) as write:
        write(1)
        write(2)
    reader.join()
    assert got == ["1\n2\n"] and path.is_fifo()


def test_what_another_process_writes_is_refused_and_stays(tmp_path):
    path = tmp_path / "faces.jsonl"
    with json_lines.open(path) as write:
        write(1)
        with pytest.raises(OSError, match="another process writes it: .*faces.jsonl"):
            with json_lines.open(path) as other:
                other(2)
        write(3)
    with json_lines.open(path) as write:
        assert path.read_text() == "1\n3\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_named():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"), json_lines.open("/dev/full") as write:
        write(1)


def test_standard_output_and_nowhere(capsys):
    with json_lines.open("-") as write:
        write([1])
    with json_lines.open(None) as write:
        write([2])
    assert capsys.readouterr().out == "[1]\n"
