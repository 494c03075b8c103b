import json
import os
import subprocess
import sys

import pytest

from keras_retinaface.bulk import progress
from tests import conftest

_LINES = [{"image": f"{index}.png", "width": 1, "height": 1, "faces": []} for index in range(5)]


def _write(path, lines, arguments, *, is_restart=False, stop=False):
    with progress.open_lines(str(path), arguments, is_restart=is_restart) as (write, done):
        earlier = dict(done.names)
        for line in lines:
            write(line)
        if stop:
            raise KeyboardInterrupt
    return earlier


def _stopped(path, lines, arguments):
    with pytest.raises(KeyboardInterrupt):
        _write(path, lines, arguments, stop=True)


def test_a_stopped_run_goes_on_behind_its_last_whole_line(tmp_path):
    path = tmp_path / "faces.jsonl"
    path.write_text('{"of": "an earlier run"}\n')
    _stopped(path, _LINES[:3], {"--model": "a"})
    with open(path, "a") as file:
        file.write('{"image": "3.pn')  # killed while it wrote
    assert progress.run_file(path).is_file()
    assert _write(path, _LINES[3:], {"--model": "a"}) == {"0.png": 1, "1.png": 1, "2.png": 1}
    assert [json.loads(line) for line in path.read_text().splitlines()] == _LINES
    # Through: nothing is left beside it, and the next run of any arguments writes it anew, as ever.
    assert [file.name for file in tmp_path.iterdir()] == ["faces.jsonl"]
    assert _write(path, _LINES[:1], {"--model": "b"}) == {} and len(path.read_text().splitlines()) == 1


def test_other_arguments_are_named_and_refused_until_it_begins_anew(tmp_path):
    path = tmp_path / "faces.jsonl"
    _stopped(path, _LINES[:2], {"--model": "a", "--tile": None, "--scales": ["500"]})
    with pytest.raises(ValueError) as error:
        _write(path, _LINES, {"--model": "b", "--tile": 64, "--scales": ["500"]})
    assert str(error.value) == (
        f"{path}: begun with other arguments; go on with those, or begin anew by --restart: "
        '--model was "a" and is "b"; --tile was not given and is 64'
    )
    assert len(path.read_text().splitlines()) == 2
    assert _write(path, _LINES[:1], {"--model": "b"}, is_restart=True) == {}
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "arguments": {}}', '{"format": 1, "arguments": 3}'])
def test_what_is_no_run_is_named(tmp_path, content):
    path = tmp_path / "faces.jsonl"
    path.write_text("")
    progress.run_file(path).write_text(content)
    with pytest.raises(ValueError, match="faces.jsonl.run: .*begin anew by --restart"):
        _write(path, _LINES, {})


def test_a_line_that_is_none_of_ours_is_named(tmp_path):
    path = tmp_path / "faces.jsonl"
    _stopped(path, _LINES[:1], {})
    with open(path, "a") as file:
        file.write('{"img": 1}\n')
    with pytest.raises(ValueError, match="faces.jsonl:2: expected a line that detect writes. Received: "):
        _write(path, _LINES, {})


def test_kill_9_loses_no_line(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from keras_retinaface.bulk import progress\n"
        "with progress.open_lines(sys.argv[1], {}) as (write, done):\n"
        "    for index in range(3):\n"
        "        write({'image': str(index)})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "faces.jsonl"
    assert subprocess.run([sys.executable, "-c", code, path], cwd=conftest.ROOT).returncode == -9
    assert _write(path, [], {}) == {"0": 1, "1": 1, "2": 1}


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no /dev/fd")
@pytest.mark.parametrize("mode", ["wb", "ab"])
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "link"])
def test_what_is_open_already_is_written_behind_and_has_no_run_file(tmp_path, mode, name):
    path, link = tmp_path / "faces.jsonl", tmp_path / "link"
    path.write_text("theirs\n")
    link.symlink_to("/dev/stdout")
    code = (
        "import os, sys\n"
        "from keras_retinaface.bulk import progress\n"
        "os.write(1, b'before\\n')\n"
        "with progress.open_lines(sys.argv[1], {}) as (write, done):\n"
        "    write({'image': 'a'})\n"
        "os.write(1, b'behind\\n')\n"
    )
    with open(path, mode) as file:
        command = [sys.executable, "-c", code, link if name == "link" else name]
        subprocess.run(command, cwd=conftest.ROOT, stdout=file, check=True)
    assert path.read_text() == ("theirs\n" if mode == "ab" else "") + 'before\n{"image": "a"}\nbehind\n'
    assert sorted(file.name for file in tmp_path.iterdir()) == ["faces.jsonl", "link"]


def test_a_link_and_its_file_are_one_run_which_another_output_ends(tmp_path):
    path, link = tmp_path / "faces.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    _stopped(link, _LINES[:2], {})
    assert progress.run_file(path).name == "faces.jsonl.run" and progress.run_file(path).is_file()
    progress.forget(link)
    assert _write(path, _LINES[:1], {}) == {}


def test_of_what_is_done_that_counts_which_is_asked_for():
    done = progress.Done()
    for name, faces in (("a", 2), ("gone", 3), ("twice", 1), ("twice", 1)):
        done.add({"image": name, "faces": [{}] * faces})
    done.add({"image": "broken", "error": "?"})
    done.add({"image": "broken and gone", "error": "?"})
    assert [done.pop(name) for name in ("a", "twice", "broken", "new", "a")] == [True, True, True, False, False]
    assert (done.broken, done.faces) == (1, 3)


def test_a_model_is_told_by_its_content(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"123456789")
    assert progress.model_sum(str(path)) == "cbf43926"  # the check value of CRC-32
    assert progress.model_sum("mobilenet025") is None
