import shutil

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.inference import runtime
from tests import forked
from tests.keras_retinaface.weights import imports_pytorch_test as networks


def _run(*arguments):
    return forked.run("-m", "keras_retinaface.cli.imports", *arguments)


def test_a_checkpoint_becomes_a_workdir(tmp_path):
    path, workdir = tmp_path / "mine.npz", tmp_path / "run"
    np.savez(path, **networks._state("yakhyo_mobilenet050"))
    done = _run(path, f"--output={workdir}")
    assert done.returncode == 0, done.stderr
    model = runtime.load_keras(workdir)
    assert model.config.network.backbone == "mobilenet050"
    assert config_lib.Config.from_json((workdir / "config.json").read_text()) == model.config
    lines = [line for line in (workdir / "network.flags").read_text().splitlines() if line.startswith("--")]
    flags = dict(line[2:].split("=", 1) for line in lines)
    changes = {name: config_lib.parse(name, value) for name, value in flags.items()}
    assert config_lib.Config().replace(**changes) == model.config
    with np.load(path) as state:
        kernel = state["fx.stage1.0.0.weight"].transpose(2, 3, 1, 0)[:, :, ::-1]
    np.testing.assert_array_equal(model.get_layer("stage1_0").kernel, kernel)


def test_a_damaged_file_and_a_workdir_in_use_are_one_line(tmp_path):
    path = tmp_path / "broken.pth"
    shutil.copy(networks.TESTDATA / "tensors.pth", path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    done = _run(path, f"--output={tmp_path / 'run'}")
    assert done.returncode == 1 and "is the workdir of a run" in done.stderr
    done = _run(path, f"--output={tmp_path / 'new'}")
    assert done.returncode == 1 and "its names are those of no network that is known" in done.stderr
    assert not list((tmp_path / "new").iterdir()) and "Traceback" not in done.stderr
