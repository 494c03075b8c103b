"""Commands with no more flags than they need, one after another. `end_to_end_test` has export and detection.

Only sizes are cut, so that a processor trains in seconds; serving has its test in `data_pipeline/serve_test`.
"""

import json

import pytest

from tests import forked, train_runs


def _run(*arguments):
    done = forked.run(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
def test_defaults(tmp_path):
    folder = train_runs.write_images(tmp_path / "images")
    faces = [f"--images={folder}", f"--annotations={folder / 'label.txt'}"]
    _run("-m", "data_pipeline.build_tfrecords", *faces, f"--output={tmp_path / 'records' / 'train'}")
    workdir = tmp_path / "run"
    _run(
        "train_main.py",
        f"--train_annotations={tmp_path}/records/train-*",
        f"--workdir={workdir}",
        *("--epochs=1", "--batch_size=2", "--image_size=64,64"),
    )
    assert len(train_runs.losses(workdir)["loss"]) == 1
    report = tmp_path / "report.json"
    _run(
        "evaluate_main.py",
        f"--model={workdir}",
        f"--images={folder}",
        f"--landmarks={folder / 'label.txt'}",
        f"--json={report}",
    )
    assert json.loads(report.read_text())["landmarks"]["faces"] == 12
    _run("-m", "data_pipeline.view", *faces, f"--output={tmp_path / 'drawn'}")
    assert len(list((tmp_path / "drawn").iterdir())) == 8
