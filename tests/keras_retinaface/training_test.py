import numpy as np
import pytest

from keras_retinaface import checkpoint, training, weights
from keras_retinaface import config as config_lib
from keras_retinaface import model as model_lib


def test_schedule_worked_example():
    schedule = training.WarmupSteps(0.01, 10, (50, 70))
    rates = {0: 1e-3, 5: 5.5e-3, 10: 1e-2, 49: 1e-2, 50: 1e-3, 69: 1e-3, 70: 1e-4}
    for step, rate in rates.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-5)
    again = training.WarmupSteps.from_config(schedule.get_config())
    np.testing.assert_allclose(again(7), schedule(7))


def test_weight_decay_pulls_kernels_only():
    model = model_lib.RetinaFace()
    config = config_lib.Training(learning_rate=0.1, weight_decay=0.5, momentum=0.0, warmup=0.0)
    optimizer = training.make_optimizer(config, 100)
    optimizer.build(model.trainable_variables)
    before = {name: variable.numpy() for name, variable in weights.names(model).items()}
    gradients = [np.zeros(variable.shape, np.float32) for variable in model.trainable_variables]
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    for name, variable in weights.names(model).items():
        factor = 1 - 0.1 * 0.5 if name.endswith("kernel") else 1.0
        np.testing.assert_allclose(variable.numpy(), factor * before[name], rtol=1e-5, err_msg=name)


def test_frozen_norms_keep_their_statistics():
    model = model_lib.RetinaFace()
    training.freeze(model, config_lib.Training(use_frozen_norms=True))
    before = model.get_layer("stage1_0_bn").get_weights()
    model(np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)), training=True)
    for old, new in zip(before, model.get_layer("stage1_0_bn").get_weights()):
        np.testing.assert_array_equal(old, new)


def test_initialise_from_every_kind(tmp_path):
    source = model_lib.RetinaFace()
    weights.save(source, tmp_path / "w.npz")
    source.save(tmp_path / "model.keras")
    source.save_weights(tmp_path / "w.weights.h5")
    for init in ("w.npz", "model.keras", "w.weights.h5", ""):
        model = model_lib.RetinaFace()
        training.initialise(model, str(tmp_path / init))  # the folder itself is a workdir
        np.testing.assert_array_equal(
            model.get_layer("merge_P3").get_weights()[0], source.get_layer("merge_P3").get_weights()[0]
        )
    with pytest.raises(ValueError, match="no such file"):
        training.initialise(model_lib.RetinaFace(), str(tmp_path / "missing.weights.h5"))
    with pytest.raises(ValueError, match="`model` must be .* Received: 'resnet'"):
        training.initialise(model_lib.RetinaFace(), "resnet")


def test_a_new_start_keeps_the_old_files(tmp_path):
    workdir = tmp_path / "run"
    assert training.prepare_workdir(workdir, resume=True) is None
    training.prepare_workdir(workdir, resume=False)
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"], "there is nothing to keep"
    for number in (1, 2):
        checkpoint.write(workdir / "checkpoints", number, {}, {}, keep=1)
        (workdir / "history.csv").write_text(str(number))
        (workdir / "notes.txt").write_text("mine")
        assert training.prepare_workdir(workdir, resume=True).step == number
        assert training.prepare_workdir(workdir, resume=False) is None
        aside = workdir / f"earlier_{number:03d}"
        assert (aside / "history.csv").read_text() == str(number)
        assert (aside / f"checkpoints/step_{number:08d}.npz").is_file()
        assert not any((workdir / "checkpoints").iterdir()) and (workdir / "notes.txt").is_file()


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="`workdir` cannot be written: Not a directory: .*file/run"):
        training.prepare_workdir(tmp_path / "file" / "run", resume=True)
