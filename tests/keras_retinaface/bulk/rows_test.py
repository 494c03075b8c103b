import json
import pathlib

import pytest

from keras_retinaface.bulk import progress, rows

try:
    from pyarrow import parquet
except ImportError as error:
    pytest.skip(f"no usable pyarrow: {error}", allow_module_level=True)

_FACE = {"box": [1.5, 2.0, 30.25, 40.0], "score": 0.75, "landmarks": [[float(x), x + 0.5] for x in range(5)]}
_LINES = [
    {"image": "a.png", "width": 640, "height": 480, "faces": [_FACE, {**_FACE, "score": 0.5}]},
    {"image": "odd\udcff.png", "error": "odd\udcff.png: the file is empty"},
    {"image": "none.png", "width": 10, "height": 20, "faces": []},
    *({"image": f"{index}.png", "width": 1, "height": 1, "faces": []} for index in range(6)),
]


def _write(folder, lines, arguments=None, *, stop=False, **options):
    with rows.open_parts(str(folder), arguments or {}, flag="json", part_rows=4, **options) as (write, done):
        earlier = dict(done.names)
        for line in lines:
            write(line)
        if stop:
            raise KeyboardInterrupt
    return earlier


def _paths(folder):
    return [row for part in rows.parts(folder) for row in parquet.read_table(part)["path"].to_pylist()]


def test_rows_are_read_back_by_pandas_and_duckdb(tmp_path):
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    _write(tmp_path, _LINES)
    frame = pandas.read_parquet(tmp_path)
    assert list(frame.columns) == ["path", "width", "height", "error", "faces"] and len(frame) == 9
    first = frame.iloc[0]
    assert (first.path, first.width, first.height, first.error) == ("a.png", 640, 480, None) or pandas.isna(first.error)
    assert [face["score"] for face in first.faces] == [0.75, 0.5]
    assert list(first.faces[0]["box"]) == _FACE["box"]
    assert [list(point) for point in first.faces[0]["landmarks"]] == _FACE["landmarks"]
    assert frame.iloc[1].path == "odd\\xff.png" and frame.iloc[1].error.endswith("the file is empty")
    faces = f"(select path, unnest(faces) f from '{tmp_path}/part-*.parquet')"
    query = f"select path, f.box[3], f.score, f.landmarks[5][2] from {faces}"
    assert duckdb.sql(query).fetchall() == [("a.png", 30.25, 0.75, 4.5), ("a.png", 30.25, 0.5, 4.5)]
    assert duckdb.sql(f"select count(*) from '{tmp_path}/part-*.parquet' where error is not null").fetchall() == [(1,)]


def test_a_stopped_run_goes_on_and_the_index_says_what_is_there(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path, _LINES[:6], stop=True)
    assert len(rows.parts(tmp_path)) == 1  # two rows wait
    with open(tmp_path / rows.PENDING, "a") as file:
        file.write('{"image": "cut')
    earlier = _write(tmp_path, _LINES[6:])
    names = [rows.text(line["image"]) for line in _LINES]
    assert list(earlier) == names[:6] and _paths(tmp_path) == names
    assert [list(entry.values()) for entry in rows.Index(tmp_path).read().values()] == [
        ["part-00000.parquet", 4, 1, 2],
        ["part-00001.parquet", 4, 0, 0],
        ["part-00002.parquet", 1, 0, 0],
    ]
    # Through: the same command finds everything done, other arguments are refused, and anew is anew.
    assert len(_write(tmp_path, [])) == 9
    with pytest.raises(ValueError, match="--tile was not given and is 64$"):
        _write(tmp_path, [], {"--tile": 64})
    assert _write(tmp_path, _LINES[:1], {"--tile": 64}, is_restart=True) == {} and _paths(tmp_path) == ["a.png"]


def test_rows_that_a_part_already_has_come_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path, _LINES[:3], stop=True)
    waiting = (tmp_path / rows.PENDING).read_bytes()
    _write(tmp_path, _LINES[3:4])
    # As kill -9 leaves it between the part and what becomes of its lines; the index knows nothing of it either.
    (tmp_path / rows.PENDING).write_bytes(waiting)
    (tmp_path / rows.INDEX).unlink()
    assert len(_write(tmp_path, _LINES[4:])) == 4
    assert _paths(tmp_path) == [rows.text(line["image"]) for line in _LINES]
    assert sum(entry["rows"] for entry in rows.Index(tmp_path).read().values()) == 9


def test_a_part_that_is_gone_is_named_and_done_again(tmp_path, caplog):
    _write(tmp_path, _LINES)
    rows.parts(tmp_path)[1].unlink()
    earlier = _write(tmp_path, _LINES[4:8])
    assert len(earlier) == 5 and "part-00001.parquet is gone" in caplog.text
    assert sorted(_paths(tmp_path)) == sorted(rows.text(line["image"]) for line in _LINES)


def test_strangers_are_left_alone(tmp_path):
    (tmp_path / "mine.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="^--json=.* holds Parquet of something else: mine.parquet$"):
        _write(tmp_path, _LINES)
    progress.save(tmp_path / rows.RUN, {})
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="part-00000.parquet: not a part that this program writes: "):
        _write(tmp_path, _LINES)
    assert json.loads(pathlib.Path(tmp_path / rows.RUN).read_text())["arguments"] == {}


def test_a_run_without_a_row_locks_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):  # as a model that is not there ends it
        _write(tmp_path, [], {"--model": "typo"}, stop=True)
    assert _write(tmp_path, _LINES[:1], {"--model": "a"}) == {} and _paths(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", [rows.PENDING, rows.PLAN])
def test_a_run_that_began_keeps_its_arguments(tmp_path, name):
    progress.save(tmp_path / rows.RUN, {"--model": "a"})
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match='--model was "a" and is "b"$'):
        rows.begin(tmp_path, {"--model": "b"}, "json", is_restart=False)


def test_what_kill_9_leaves_is_no_stranger(tmp_path):
    for name in (".partial-0badcafe-1-0-0badcafe.parquet", "_all_plan.parquet"):
        (tmp_path / name).write_bytes(b"PAR1")
    assert _write(tmp_path, _LINES[:1], is_restart=True) == {} and _paths(tmp_path) == ["a.png"]


def test_a_second_process_is_refused_before_it_changes_anything(tmp_path):
    with rows.open_parts(str(tmp_path), {}, flag="json", part_rows=1) as (write, _):
        write(_LINES[0])
        with pytest.raises(OSError, match="another process writes it: "):
            _write(tmp_path, _LINES, is_restart=True)
        write(_LINES[2])
    assert _paths(tmp_path) == ["a.png", "none.png"] and len(_write(tmp_path, [])) == 2
