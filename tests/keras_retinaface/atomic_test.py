import os
import pathlib
import signal
import subprocess
import sys

import pytest

from keras_retinaface import atomic
from tests import conftest


def _names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "faces.json"
    path.write_text("old")
    with atomic.file(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".json" and path.read_text() == "old"
    assert path.read_text() == "new" and _names(tmp_path) == ["faces.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_file_as_it_was(tmp_path, error):
    path = tmp_path / "faces.json"
    path.write_text("old")
    with pytest.raises(error), atomic.file(path, is_durable=True) as partial:
        partial.write_text("new")
        raise error
    assert path.read_text() == "old" and _names(tmp_path) == ["faces.json"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic.file(tmp_path / "faces.json"):
        pass


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    with atomic.file(tmp_path / "link.txt") as partial:
        partial.write_text("new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real" / "a.txt").read_text() == "new"


def test_a_device_is_written_straight():
    with atomic.file("/dev/null") as partial:
        assert partial == pathlib.Path("/dev/null")


def test_a_name_of_the_longest_length(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    with atomic.file(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


def test_a_name_that_is_no_text(tmp_path):
    path = tmp_path / os.fsdecode(b"c\xff\n.txt")
    with atomic.file(path) as partial:
        partial.write_text("new")
    assert os.listdir(os.fsencode(tmp_path)) == [b"c\xff\n.txt"]


def test_a_folder_replaces_another_as_a_whole(tmp_path):
    path = tmp_path / "saved_model"
    path.mkdir()
    (path / "old").touch()
    with atomic.folder(path) as partial:
        (partial / "new").touch()
        assert _names(path) == ["old"]
    assert _names(path) == ["new"] and _names(tmp_path) == ["saved_model"]


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    path = tmp_path / "saved_model"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ValueError), atomic.folder(path) as partial:
        (partial / "new").touch()
        raise ValueError
    assert _names(path) == ["old"] and _names(tmp_path) == ["saved_model"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path, kind):
    path = tmp_path / "a.txt"
    make = {"file": "p.write_text('x')", "folder": "(p / 'x').touch()"}[kind]
    code = f"""
import os, signal, sys
from keras_retinaface import atomic
with atomic.{kind}(sys.argv[1]) as p:
    {make}
    os.kill(os.getpid(), signal.SIGKILL)
"""
    child = subprocess.run([sys.executable, "-c", code, str(path)], cwd=conftest.ROOT)
    assert child.returncode == -signal.SIGKILL and len(_names(tmp_path)) == 1
    with getattr(atomic, kind)(path) as partial:
        assert _names(tmp_path) == ([partial.name] if kind == "folder" else [])
        partial.write_text("new") if kind == "file" else None
    assert _names(tmp_path) == ["a.txt"]


def test_what_another_running_process_or_thread_writes_stays(tmp_path):
    path = tmp_path / "a.txt"
    with atomic.file(path) as first:
        first.write_text("first")
        with atomic.file(path) as second:
            second.write_text("second")
            assert first.read_text() == "first"
        parent = first.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
        (tmp_path / parent).touch()
        with atomic.file(path) as third:
            third.write_text("third")
        assert (tmp_path / parent).exists()
    assert path.read_text() == "first"


def test_a_folder_put_aside_by_a_killed_process_comes_back(tmp_path):
    path = tmp_path / "saved_model"
    path.mkdir()
    (path / "old").touch()
    code = """
import os, signal, sys
from keras_retinaface import atomic
real = os.rename
def rename(a, b):
    real(a, b)
    os.kill(os.getpid(), signal.SIGKILL)
os.rename = rename
with atomic.folder(sys.argv[1]) as p:
    (p / 'new').touch()
"""
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=conftest.ROOT)
    assert not path.exists()
    with pytest.raises(ValueError), atomic.folder(path):
        raise ValueError
    assert _names(path) == ["old"] and _names(tmp_path) == ["saved_model"]


def test_many_files_in_one_folder_take_no_longer_each(tmp_path, monkeypatch):
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail("lists the folder"))
    for number in range(20):
        with atomic.file(tmp_path / f"{number}.txt") as partial:
            partial.touch()
    assert listed == [tmp_path]
