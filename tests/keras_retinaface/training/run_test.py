import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import checkpoint, run
from keras_retinaface.weights import arrays


def test_frozen_norms_keep_their_statistics():
    model = model_lib.RetinaFace()
    run.freeze(model, config_lib.Training(use_frozen_norms=True))
    before = model.get_layer("stage1_0_bn").get_weights()
    model(np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)), training=True)
    for old, new in zip(before, model.get_layer("stage1_0_bn").get_weights()):
        np.testing.assert_array_equal(old, new)


def test_initialise_from_every_kind(tmp_path):
    source = model_lib.RetinaFace()
    arrays.save(source, tmp_path / "w.npz")
    source.save(tmp_path / "model.keras")
    source.save_weights(tmp_path / "w.weights.h5")
    for init in ("w.npz", "model.keras", "w.weights.h5", ""):
        model = model_lib.RetinaFace()
        run.initialise(model, str(tmp_path / init))  # the folder itself is a workdir
        np.testing.assert_array_equal(
            model.get_layer("merge_P3").get_weights()[0], source.get_layer("merge_P3").get_weights()[0]
        )
    with pytest.raises(ValueError, match="no such file"):
        run.initialise(model_lib.RetinaFace(), str(tmp_path / "missing.weights.h5"))
    with pytest.raises(ValueError, match="`model` must be .* Received: 'resnet'"):
        run.initialise(model_lib.RetinaFace(), "resnet")


def test_a_new_start_keeps_the_old_files(tmp_path):
    workdir = tmp_path / "run"
    assert run.prepare_workdir(workdir, resume=True) is None
    run.prepare_workdir(workdir, resume=False)
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"], "there is nothing to keep"
    for number in (1, 2):
        checkpoint.write(workdir / "checkpoints", number, {}, {}, keep=1)
        (workdir / "history.csv").write_text(str(number))
        (workdir / "notes.txt").write_text("mine")
        assert run.prepare_workdir(workdir, resume=True).step == number
        assert run.prepare_workdir(workdir, resume=False) is None
        aside = workdir / f"earlier_{number:03d}"
        assert (aside / "history.csv").read_text() == str(number)
        assert (aside / f"checkpoints/step_{number:08d}.npz").is_file()
        assert not any((workdir / "checkpoints").iterdir()) and (workdir / "notes.txt").is_file()


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="`workdir` cannot be written: Not a directory: .*file/run"):
        run.prepare_workdir(tmp_path / "file" / "run", resume=True)
