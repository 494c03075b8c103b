import pytest
import tensorflow as tf

from data_pipeline import record as record_lib
from data_pipeline import shard

_RECORDS = [b"first", b"", b"third" * 9, b"fourth"]
_FRAME = 16  # lengths and checksums around each


@pytest.fixture
def path(tmp_path):
    path = shard.name(str(tmp_path / "train"), 2, 13)
    with tf.io.TFRecordWriter(path) as writer:
        for record in _RECORDS:
            writer.write(record)
    assert path.endswith("train-00002-of-00013.tfrecord")
    return path


def _damage(path, place):
    with open(path, "rb+") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))


def _singles(path, runs):
    """Reads what each run behind a fault points at."""
    with open(path, "rb") as file:
        content = file.read()
    assert all(run.before + run.length + run.behind == len(content) for run in runs)
    return [content[run.before : run.before + run.length] for run in runs]


def test_a_whole_file_is_one_run(path):
    bad_data = record_lib.BadData()
    assert shard.find_runs(path, bad_data) == [shard.Run(4)] and not bad_data.faults
    assert shard.Run(4).num_records == 4 and shard.Run(0, 9, 9, 9).num_records == 1


def test_records_behind_a_fault_are_found_by_their_place(path):
    _damage(path, _FRAME + len(_RECORDS[0]) + 8 + 4)  # the checksum of the empty second record
    bad_data = record_lib.BadData("skip")
    first, *others = shard.find_runs(path, bad_data)
    assert first == shard.Run(1) and _singles(path, others) == _RECORDS[2:]
    assert bad_data.num_skipped == 1 and bad_data.faults[0].startswith(f"{path}: record 1: expected 0 bytes from 21 of")


def test_a_fault_at_the_start_leaves_no_first_run(path):
    _damage(path, 12)
    runs = shard.find_runs(path, record_lib.BadData("skip"))
    assert [run.count for run in runs] == [0, 0, 0] and _singles(path, runs) == _RECORDS[1:]


def test_a_cut_file_is_used_up_to_the_cut_or_named(path):
    with open(path, "rb+") as file:
        size = file.truncate(file.seek(0, 2) - 1)
    bad_data = record_lib.BadData("skip")
    assert shard.find_runs(path, bad_data) == [shard.Run(3)] and bad_data.num_skipped == 1
    with pytest.raises(ValueError, match=f"record 3: expected 6 bytes from .* Received: 'a file that ends at {size}'"):
        shard.find_runs(path, record_lib.BadData())


def test_an_empty_file_has_no_runs(tmp_path):
    (tmp_path / "empty.tfrecord").touch()
    assert shard.find_runs(str(tmp_path / "empty.tfrecord"), record_lib.BadData()) == []
