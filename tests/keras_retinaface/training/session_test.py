import csv

import numpy as np
import pytest

from data_pipeline import feed
from keras_retinaface import config as config_lib
from keras_retinaface import training
from keras_retinaface.inference import runtime
from keras_retinaface.training import checkpoint
from keras_retinaface.weights import arrays

_CONFIG = config_lib.Config().replace(image_size=(64, 64), batch_size=2, epochs=2, pyramid_channels=8, ema_decay=0.5)


def _run(workdir, config=_CONFIG, **options):
    return training.run(config, feed.open("synthetic:4", None), workdir, verbose=0, **options)


@pytest.mark.long
def test_a_run_is_a_call_that_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = arrays.read(_run(tmp_path / "whole", files={"note.txt": "a"}))
    names = {"checkpoints", "config.json", "history.csv", "logs", "model.keras", "note.txt"}
    assert {path.name for path in (tmp_path / "whole").iterdir()} == names
    assert config_lib.Config.from_json((tmp_path / "whole" / "config.json").read_text()) == _CONFIG
    # Stopped as by a full disk when it writes the checkpoint of the second epoch.
    write = checkpoint.write

    def fail(directory, step, *arguments, **options):
        if step == 4:
            raise OSError("no space")
        return write(directory, step, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", fail)
        with pytest.raises(OSError, match="no space"):
            _run(tmp_path / "parts")
    model = _run(tmp_path / "parts")
    # A run that is done is only read.
    for values in (arrays.read(model), arrays.read(_run(tmp_path / "parts"))):
        for name, value in values.items():
            np.testing.assert_allclose(value, whole[name], atol=1e-6, err_msg=name)
    with open(tmp_path / "parts" / "history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    for name, value in arrays.read(runtime.load_keras(tmp_path / "parts")).items():
        np.testing.assert_array_equal(value, arrays.read(model)[name])
    with pytest.raises(ValueError, match="--epochs=2 then, 3 now"):
        _run(tmp_path / "parts", _CONFIG.replace(epochs=3))


def test_ground_truth_without_images_is_told_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="`val_ground_truth` needs `val_images`"):
        _run(tmp_path / "run", val_ground_truth=tmp_path)
    assert not (tmp_path / "run").exists()
