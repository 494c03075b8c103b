import pytest

from data_pipeline import record as record_lib
from data_pipeline import shard, source
from tests import pipeline_runs


@pytest.mark.slow
def test_tfrecords_by_the_command_hold_what_the_files_do(folder, tmp_path, request):
    output = str(tmp_path / "new" / "train")
    flags = [f"--images={folder}", f"--annotations={folder / 'label.txt'}", f"--output={output}", "--num_shards=3"]
    done = pipeline_runs.command("build_tfrecords", request.config.rootpath, *flags)
    assert done.returncode == 0, done.stderr
    assert "wrote 7 images" in done.stderr and "7/7" in done.stderr
    paths = [shard.name(output, index, 3) for index in range(3)]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [path.rsplit("/", 1)[1] for path in paths]
    assert [shard.find_runs(path, record_lib.BadData()) for path in paths] == [
        [shard.Run(count)] for count in (3, 2, 2)
    ]
    opened = source.open(None, output + "-*")
    assert isinstance(opened, source.ShardSource) and opened.num_records == 7
    files = source.open(str(folder), str(folder / "label.txt"))
    pipeline_runs.assert_equal(pipeline_runs.parsed(opened), pipeline_runs.parsed(files))


@pytest.mark.slow
def test_a_truncated_jpeg_stops_the_command_by_name(folder, tmp_path, request):
    pipeline_runs.copy(folder, tmp_path)
    broken = tmp_path / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    flags = [f"--images={tmp_path}", f"--annotations={tmp_path / 'label.txt'}", f"--output={tmp_path / 'train'}"]
    done = pipeline_runs.command("build_tfrecords", request.config.rootpath, *flags)
    assert done.returncode == 1
    line = 1 + (tmp_path / "label.txt").read_text().splitlines().index("# 2.jpg")
    assert (
        f"label.txt:{line}: {broken}: expected a whole image. Received: '{broken.stat().st_size} bytes: " in done.stderr
    )
    assert not list(tmp_path.glob("train*"))
