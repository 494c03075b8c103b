import os
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline import build_tfrecords, record, source, wider_face


def test_shards_hold_every_record_once_and_unchanged(folder):
    records = wider_face.read(str(folder / "label.txt"))
    paths = build_tfrecords.build(str(folder / "images"), records, str(folder / "records" / "train"), 4)
    assert [os.path.basename(path) for path in paths] == [f"train-{i:05d}-of-00004.tfrecord" for i in range(4)]
    counts = [source.open(None, path).num_records for path in paths]
    assert sorted(counts) == [3, 3, 3, 4]
    opened = source.open(None, str(folder / "records" / "train-*"))
    samples = [opened.parse(item) for _, item in opened.in_order(1, 0)]
    by_name = {sample["image_name"].numpy().decode(): sample for sample in samples}
    assert len(samples) == len(by_name) == 13
    for original in records:
        sample = by_name[original.image]
        np.testing.assert_array_equal(sample["boxes"], original.boxes)
        np.testing.assert_array_equal(sample["landmarks"], original.landmarks)
        assert sample["image_bytes"].numpy() == (folder / "images" / original.image).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("on_bad_data", "status"), [("fail", 1), ("skip", 0)])
def test_the_command_shows_progress_and_faults(folder, on_bad_data, status):
    whole = (folder / "images" / "event" / "03.jpg").read_bytes()
    (folder / "images" / "event" / "03.jpg").write_bytes(whole[:500])
    command = [sys.executable, "-W", "ignore", "-m", "data_pipeline.build_tfrecords", f"--on_bad_data={on_bad_data}"]
    flags = {
        "images": folder / "images",
        "annotations": folder / "label.txt",
        "output": folder / "out",
        "num_shards": 2,
    }
    run = subprocess.run(
        command + [f"--{name}={value}" for name, value in flags.items()], capture_output=True, text=True
    )
    assert run.returncode == status, run.stderr
    assert "event/03.jpg: expected a whole image. Received: '500 bytes: " in run.stderr
    if on_bad_data == "skip":
        assert "12/12" in run.stderr and "skipped 1 of 13 images for 1 faults" in run.stderr
        assert source.open(None, str(folder / "out-*")).num_records == 12


def test_no_file_has_a_shards_name_before_it_is_whole(folder):
    records = [*wider_face.read(str(folder / "label.txt")), record.make("gone.jpg", [])]
    with pytest.raises(FileNotFoundError):
        build_tfrecords.build(str(folder / "images"), records, str(folder / "out"), 1)
    assert not list(folder.glob("out-*.tfrecord"))
