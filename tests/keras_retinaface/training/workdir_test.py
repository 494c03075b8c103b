import pytest

from keras_retinaface.training import checkpoint
from keras_retinaface.training import workdir as workdir_lib


def test_a_new_start_keeps_the_old_files(tmp_path):
    workdir = tmp_path / "run"
    assert workdir_lib.prepare(workdir, resume=True) is None
    workdir_lib.prepare(workdir, resume=False)
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"], "there is nothing to keep"
    for number in (1, 2):
        checkpoint.write(workdir / "checkpoints", number, {}, {}, keep=1)
        (workdir / "history.csv").write_text(str(number))
        (workdir / "notes.txt").write_text("mine")
        assert workdir_lib.prepare(workdir, resume=True).step == number
        assert workdir_lib.prepare(workdir, resume=False) is None
        aside = workdir / f"earlier_{number:03d}"
        assert (aside / "history.csv").read_text() == str(number)
        assert (aside / f"checkpoints/step_{number:08d}.npz").is_file()
        assert not any((workdir / "checkpoints").iterdir()) and (workdir / "notes.txt").is_file()


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="`workdir` cannot be written: Not a directory: .*file/run"):
        workdir_lib.prepare(tmp_path / "file" / "run", resume=True)


def test_a_folder_that_was_taken_away_leaves_a_number_free(tmp_path):
    (tmp_path / "earlier_002").mkdir()
    (tmp_path / "checkpoints").mkdir()
    checkpoint.write(tmp_path / "checkpoints", 1, {}, {}, keep=1)
    workdir_lib.prepare(tmp_path, resume=False)
    assert (tmp_path / "earlier_003" / "checkpoints").is_dir()
