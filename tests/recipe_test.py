import json

import numpy as np
import pytest

from keras_retinaface import config as config_lib
from tests import conftest, train_runs

FLAGFILE = conftest.ROOT / "configs" / "mobilenet025_recipe.flags"


@pytest.mark.long
def test_the_recipe_trains_on_two_sources(tmp_path):
    folder, workdir = train_runs.write_images(tmp_path / "photos"), tmp_path / "run"
    annotations = (folder / "label.txt").read_text()
    # The first source has its points in a file of their own.
    more = ["--train_landmarks=" + str(folder / "label.txt"), "--train_landmarks="]
    (folder / "first.txt").write_text(annotations[: annotations.index("# 3.jpg")])
    more += [f"--train_images={folder}", f"--train_annotations={folder / 'first.txt'}", "--train_shares=.75,.25"]
    # The flags of the run come first, so that those of the recipe win but for what is given after them.
    small = ["--image_size=96,96", "--batch_size=4", "--epochs=2", "--steps_per_epoch=4", "--use_frozen_norms=false"]
    status, log = train_runs.run(folder, workdir, f"--flagfile={FLAGFILE}", *more, *small, log=tmp_path / "log")
    assert status == 0, log
    history = train_runs.losses(workdir)
    assert all(np.isfinite(values).all() for values in history.values()) and min(history["class_loss"]) > 0
    config = config_lib.Config.from_json((workdir / "config.json").read_text())
    assert config.anchors.assignment == "dynamic" and config.augmentation.native_scale == (0.6, 2.0)
    assert "training on 11 images" in log
    flags = (workdir / "run.flags").read_text().splitlines()
    assert [flag for flag in flags if "annotations" in flag] == [
        f"--train_annotations={folder / name}" for name in ("label.txt", "first.txt")
    ]
    with np.load(workdir / "checkpoints" / "step_00000008.npz") as checkpoint:
        settings = json.loads(str(checkpoint["settings"]))
    assert settings["train_landmarks"] == [str(folder / "label.txt"), None] and settings["train_shares"] == [
        ".75",
        ".25",
    ]
    # The same command finds it done; other shares are another training.
    status, log = train_runs.run(
        folder, workdir, f"--flagfile={FLAGFILE}", *more, *small, "--train_shares=.5,.5", log=tmp_path / "log"
    )
    assert status == 1 and "--train_shares=.75,.25 then, .5,.5 now" in log, log
