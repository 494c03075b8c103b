import logging

import numpy as np
import pytest

from keras_retinaface.evaluation import prediction
from keras_retinaface.inference import merging

NAMES = ("0--A/0_A_1", "0--A/0_A_2", "1--B/1_B_1")


def _write(directory, name, text):
    path = directory / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _assert_same(ours, theirs):
    for one, other in zip(ours[:3], theirs[:3]):
        np.testing.assert_array_equal(one, other)


def test_read_inverts_write_and_sorts_by_score(tmp_path):
    numbers = np.random.default_rng(0).normal(100, 50, (20, 5)).astype(np.float32)  # as a model's are
    found = merging.Detections(numbers[:, :4], numbers[:, 4], None)
    prediction.write(tmp_path, NAMES[0], found)
    prediction.write(tmp_path, NAMES[1], found.select([]))
    predictions, missing = prediction.read(tmp_path, NAMES[:2])
    _assert_same(predictions[NAMES[0]], found.select(np.argsort(-found.scores)))
    assert predictions[NAMES[1]].boxes.shape == (0, 4) and not missing
    assert sorted(path.name for path in (tmp_path / "0--A").iterdir()) == ["0_A_1.txt", "0_A_2.txt"]


def test_text_is_the_official_format(tmp_path):
    boxes = np.array([[1.5, 2, 4.5, 6], [5, 6, 12, 14]])  # x1 y1 x2 y2; the format has width and height
    prediction.write(tmp_path, NAMES[0], merging.Detections(boxes, np.array([0.25, 0.75]), None))
    text = (tmp_path / f"{NAMES[0]}.txt").read_text()
    assert text == "0--A/0_A_1.jpg\n2\n5.0 6.0 7.0 8.0 0.75\n1.5 2.0 3.0 4.0 0.25\n"


def test_landmarks_ride_behind_the_score(tmp_path):
    numbers = np.random.default_rng(1).random((4, 15)).astype(np.float32)
    found = merging.Detections(numbers[:, :4], numbers[:, 4], numbers[:, 5:].reshape(4, 5, 2))
    prediction.write(tmp_path, NAMES[0], found)
    text = (tmp_path / f"{NAMES[0]}.txt").read_text()
    _assert_same(prediction.parse(text, where="x"), found.select(np.argsort(-found.scores)))
    # Line by line or all at once, the same numbers.
    assert prediction.parse("a\n1\n1 2 3 4 0.5\n", where="x").landmarks is None


def test_rows_are_turned_and_turned_back():
    rows = np.arange(30.0).reshape(2, 15)
    found = prediction.of_rows(rows)
    np.testing.assert_array_equal(found.boxes, [[0, 1, 2, 4], [15, 16, 32, 34]])
    np.testing.assert_array_equal(prediction.to_rows(found), rows)
    np.testing.assert_array_equal(prediction.to_rows(prediction.of_rows(rows[:, :5])), rows[:, :5])


@pytest.mark.parametrize("title", ["0--A/0_A_1.jpg", "0_A_1.jpg", "0_A_1", "./0--A/0_A_1.jpg", "anything"])
def test_titles_in_use_are_accepted(tmp_path, title):
    _write(tmp_path, NAMES[0], f"{title}\r\n1\r\n1 2 3 4 0.5 \r\n\n")
    (found,) = prediction.read(tmp_path, NAMES[:1])[0].values()
    assert (found.boxes.tolist(), found.scores.tolist()) == ([[1, 2, 4, 6]], [0.5])


def test_announced_number_of_rows(tmp_path):
    _write(tmp_path, NAMES[0], "0_A_1\n1\n1 2 3 4 0.5\n5 6 7 8 0.4\n")
    _write(tmp_path, NAMES[1], "0_A_2\n3\n1 2 3 4 0.5\n5 6 7 8 0.4\n")
    matlab, _ = prediction.read(tmp_path, NAMES[:2])
    python, _ = prediction.read(tmp_path, NAMES[:2], compat="python")
    assert [len(matlab[name].boxes) for name in NAMES[:2]] == [1, 0]
    assert [len(python[name].boxes) for name in NAMES[:2]] == [2, 2]


def test_missing_files_are_counted_and_missing_events_named(tmp_path, caplog):
    _write(tmp_path, NAMES[0], "0_A_1\n0\n")
    with caplog.at_level(logging.WARNING):
        _, missing = prediction.read(tmp_path, NAMES)
    assert missing == list(NAMES[1:])
    assert "2 of 3 images have no prediction file" in caplog.text
    assert "1 of 2 events are missing whole: 1--B" in caplog.text


@pytest.mark.parametrize(
    "text, message",
    [
        ("0_A_1\n", r"0_A_1.txt:2: expected the number of rows. Received: ''"),
        ("0_A_1\n1\n1 2 3 4\n", r"0_A_1.txt:3: expected `x y width height score`. Received: '1 2 3 4'"),
        ("0_A_1\n2\n1 2 3 4 .5\n1,2,3,4,.5\n", r"0_A_1.txt:4: expected `x y width height score`. Received: '1,2"),
        ("0_A_1\n2\n1 2 3 4 .5\n1 2 3 4 nan\n", r"0_A_1.txt:4: expected finite numbers"),
        ("0--A/0_A_2.jpg\n0\n", r"0_A_1.txt:1: the file is that of 0--A/0_A_1, but its first line names 0--A/0_A_2"),
        ("1--B/0_A_1.jpg\n0\n", r"first line names 1--B/0_A_1"),
    ],
)
def test_faults_are_named_with_file_and_line(tmp_path, text, message):
    _write(tmp_path, NAMES[0], text)
    with pytest.raises(ValueError, match=message):
        prediction.read(tmp_path, NAMES)


@pytest.mark.parametrize(
    "path, message",
    [
        ("0_A_1", "is not in the folder of its event"),
        ("A/0_A_1", "is in 'A', which is no event"),
        ("deep/0--A/0_A_1", "The files are further down, in .*deep"),
        ("0_A_1/0--A", "event and image are swapped"),
        ("0--A/else", "No file there has the name of an image"),
    ],
)
def test_wrong_layouts_are_named(tmp_path, path, message):
    _write(tmp_path, path, "0_A_1\n0\n")
    with pytest.raises(FileNotFoundError, match=f"holds none of 3 files. .*{message}"):
        prediction.read(tmp_path, NAMES)


def test_write_rejects_what_it_cannot_mean(tmp_path):
    with pytest.raises(ValueError, match=r"must be \[n, 5\] or \[n, 15\]. Received: \(1, 4\)"):
        prediction.of_rows(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="must be finite. Received: .*inf"):
        prediction.write(tmp_path, NAMES[0], prediction.of_rows([[1, 2, 3, np.inf, 0.5]]))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "e/a", "a/b/c/d/a"])
def test_names_of_any_number_of_parts(tmp_path, name):
    found = prediction.of_rows([[1.0, 2, 3, 4, 0.5]])
    prediction.write(tmp_path, name, found)
    read, missing = prediction.read(tmp_path, [name, "other/b", "c"])
    _assert_same(read[name], found)
    assert missing == ["other/b", "c"]
    # Titles may name the image alone, or with its folders; those of another image are told.
    path = tmp_path / f"{name}.txt"
    for title in ("a.jpg", f"{name}.jpg"):
        path.write_text(f"{title}\n1\n1 2 3 4 0.5\n")
        assert len(prediction.read(tmp_path, [name])[0][name].boxes) == 1
    path.write_text("other/b.jpg\n1\n1 2 3 4 0.5\n")
    with pytest.raises(ValueError, match=r"a.txt:1: the file is that of .*, but its first line names other/b"):
        prediction.read(tmp_path, [name, "other/b"])
    with pytest.raises(FileNotFoundError, match="holds none of 1 files"):
        prediction.read(tmp_path, ["no/such/name"])


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "e/../../a"])
def test_nothing_is_written_outside(tmp_path, name):
    with pytest.raises(ValueError, match="`name` must be a name inside the folder of images. Received: "):
        prediction.write(tmp_path / "in", name, merging.empty())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["1_0", "٣", "nan", "9" * 5000, "1e400"])
def test_odd_numbers_are_told(word):
    with pytest.raises(ValueError, match="^p.txt:3: expected "):
        prediction.parse(f"a\n1\n{word} 2 3 4 0.5\n", where="p.txt")
    with pytest.raises(ValueError, match="^p.txt:2: expected the number of rows. Received: "):
        prediction.parse(f"a\n{word}\n1 2 3 4 0.5\n", where="p.txt")
