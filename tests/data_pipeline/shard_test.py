import pytest
import tensorflow as tf

from data_pipeline import record, shard


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "a.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for length in (0, 5, 1000):
            writer.write(b"x" * length)
    return path


def test_count(path):
    assert shard.count(path, record.BadData()) == 3


@pytest.mark.parametrize(
    ("kept", "message"), [(900, "record 2: expected 1000 bytes from 37"), (20, "record 1: expected ")]
)
def test_a_cut_file_is_named_and_its_whole_records_count(path, kept, message):
    with open(path, "r+b") as file:
        file.truncate(kept)
    with pytest.raises(ValueError, match=message):
        shard.count(path, record.BadData())
    bad_data = record.BadData("skip")
    assert shard.count(path, bad_data) == (2 if kept == 900 else 1)
    assert f"a file that ends at {kept}" in bad_data.faults[0]
