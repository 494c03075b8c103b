import logging

import numpy as np
import pytest

from keras_retinaface.evaluation import prediction

NAMES = ("0--A/0_A_1", "0--A/0_A_2", "1--B/1_B_1")


def _write(directory, name, text):
    path = directory / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_read_inverts_write_and_sorts_by_score(tmp_path):
    rows = np.random.default_rng(0).normal(100, 50, (20, 5))
    prediction.write(tmp_path, NAMES[0], rows)
    prediction.write(tmp_path, NAMES[1], np.zeros((0, 5)))
    predictions, missing = prediction.read(tmp_path, NAMES[:2])
    np.testing.assert_array_equal(predictions[NAMES[0]], rows[np.argsort(-rows[:, 4])])
    assert predictions[NAMES[1]].shape == (0, 5) and not missing
    assert sorted(path.name for path in (tmp_path / "0--A").iterdir()) == ["0_A_1.txt", "0_A_2.txt"]


def test_text_is_the_official_format(tmp_path):
    prediction.write(tmp_path, NAMES[0], np.array([[1.5, 2, 3, 4, 0.25], [5, 6, 7, 8, 0.75]]))
    text = (tmp_path / f"{NAMES[0]}.txt").read_text()
    assert text == "0--A/0_A_1.jpg\n2\n5.0 6.0 7.0 8.0 0.75\n1.5 2.0 3.0 4.0 0.25\n"


def test_landmarks_ride_behind_the_score(tmp_path):
    rows = np.random.default_rng(1).random((4, 15))
    prediction.write(tmp_path, NAMES[0], rows)
    path = tmp_path / f"{NAMES[0]}.txt"
    np.testing.assert_array_equal(prediction.parse(path.read_text(), where="x"), rows[np.argsort(-rows[:, 4])])
    stacked, _ = prediction.stack(prediction.read(tmp_path, NAMES[:1])[0], NAMES[:1])
    np.testing.assert_array_equal(stacked, rows[np.argsort(-rows[:, 4]), :5])


@pytest.mark.parametrize("title", ["0--A/0_A_1.jpg", "0_A_1.jpg", "0_A_1", "./0--A/0_A_1.jpg", "anything"])
def test_titles_in_use_are_accepted(tmp_path, title):
    _write(tmp_path, NAMES[0], f"{title}\r\n1\r\n1 2 3 4 0.5 \r\n\n")
    np.testing.assert_array_equal(prediction.read(tmp_path, NAMES[:1])[0][NAMES[0]], [[1, 2, 3, 4, 0.5]])


def test_announced_number_of_rows(tmp_path):
    _write(tmp_path, NAMES[0], "0_A_1\n1\n1 2 3 4 0.5\n5 6 7 8 0.4\n")
    _write(tmp_path, NAMES[1], "0_A_2\n3\n1 2 3 4 0.5\n5 6 7 8 0.4\n")
    matlab, _ = prediction.read(tmp_path, NAMES[:2])
    python, _ = prediction.read(tmp_path, NAMES[:2], compat="python")
    assert [len(matlab[name]) for name in NAMES[:2]] == [1, 0]
    assert [len(python[name]) for name in NAMES[:2]] == [2, 2]


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
        prediction.write(tmp_path, NAMES[0], np.zeros((1, 4)))
    with pytest.raises(ValueError, match="must be finite. Received: .*inf"):
        prediction.write(tmp_path, NAMES[0], np.array([[1, 2, 3, np.inf, 0.5]]))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "e/a", "a/b/c/d/a"])
def test_names_of_any_number_of_parts(tmp_path, name):
    rows = np.array([[1.0, 2, 3, 4, 0.5]])
    prediction.write(tmp_path, name, rows)
    read, missing = prediction.read(tmp_path, [name, "other/b", "c"])
    np.testing.assert_array_equal(read[name], rows)
    assert missing == ["other/b", "c"]
    # Titles may name the image alone, or with its folders; those of another image are told.
    path = tmp_path / f"{name}.txt"
    for title in ("a.jpg", f"{name}.jpg"):
        path.write_text(f"{title}\n1\n1 2 3 4 0.5\n")
        assert len(prediction.read(tmp_path, [name])[0][name]) == 1
    path.write_text("other/b.jpg\n1\n1 2 3 4 0.5\n")
    with pytest.raises(ValueError, match=r"a.txt:1: the file is that of .*, but its first line names other/b"):
        prediction.read(tmp_path, [name, "other/b"])
    with pytest.raises(FileNotFoundError, match="holds none of 1 files"):
        prediction.read(tmp_path, ["no/such/name"])


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "e/../../a"])
def test_nothing_is_written_outside(tmp_path, name):
    with pytest.raises(ValueError, match="`name` must be a name inside the folder of images. Received: "):
        prediction.write(tmp_path / "in", name, np.zeros((0, 5)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["1_0", "٣", "nan", "9" * 5000, "1e400"])
def test_odd_numbers_are_told(word):
    with pytest.raises(ValueError, match="^p.txt:3: expected "):
        prediction.parse(f"a\n1\n{word} 2 3 4 0.5\n", where="p.txt")
    with pytest.raises(ValueError, match="^p.txt:2: expected the number of rows. Received: "):
        prediction.parse(f"a\n{word}\n1 2 3 4 0.5\n", where="p.txt")
