import codecs
import re

import numpy as np
import pytest

from data_pipeline import record as record_lib
from data_pipeline import wider_face
from keras_retinaface.evaluation import annotation
from keras_retinaface.formats import annotation_text

_LABEL = "# ä.jpg\n10 20 30 40\n"
_UNLABELLED = "-1 -1 0"


@pytest.mark.parametrize(
    "mark, encoding",
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_marks_and_line_breaks(tmp_path, mark, encoding, line_break):
    path = tmp_path / "label.txt"
    path.write_bytes(mark + _LABEL.replace("\n", line_break).encode(encoding))
    (trained,), (evaluated,) = wider_face.read(str(path)), annotation.read(path)
    assert trained.image == evaluated.image == "ä.jpg" and trained.where == "label.txt:1"
    np.testing.assert_array_equal(trained.boxes, evaluated.boxes)


def test_utf16_without_a_mark_is_told():
    with pytest.raises(ValueError, match="^a.txt:1: expected text in UTF-8, .* Received: zero bytes"):
        annotation_text.decode(_LABEL.encode("utf-16-le"), "a.txt")


@pytest.mark.parametrize("word", ["²", "٣", "1_0", "nan", "inf", "1e39", "9" * 5000, "0x1", "1,5", "½", "", "1e400"])
def test_what_is_no_number(word):
    assert annotation_text.number(word) is None and annotation_text.whole(word) is None


@pytest.mark.parametrize(
    "word, value", [("1", 1), ("-1.5", -1.5), (".5", 0.5), ("3.", 3), ("+2e1", 20), ("1e-9", 1e-9)]
)
def test_what_is_a_number(word, value):
    assert annotation_text.number(word) == value


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:\\a.jpg", "..\\a.jpg", "\\\\h\\a.jpg", ""]
)
def test_names_that_leave_the_folder(tmp_path, name):
    assert annotation_text.name_fault(name)
    path = tmp_path / "label.txt"
    path.write_text(f"# {name}\n1 2 3 4\n")
    for read in (lambda: wider_face.read(str(path)), lambda: annotation.read(path)):
        with pytest.raises(ValueError, match=r"label.txt:1: expected .*name|label.txt:1: expected `# ` and the path"):
            read()


@pytest.mark.parametrize("name", ["a.jpg", "a/b/c/d/e.jpg", "./a.jpg", "a/../b.jpg", "a..b/c.jpg", "ä b.png"])
def test_names_inside_the_folder(name):
    assert not annotation_text.name_fault(name) and annotation_text.is_image(name)


@pytest.mark.parametrize("row", ["1 2 3.e10", "a.jpg 640 480", "1.5", ".e10"])
def test_rows_are_no_names(row):
    assert not annotation_text.is_image(row)


@pytest.mark.parametrize("num_more, is_good", [(0, True), (1, True), (2, True), (18, True), (19, False)])
def test_columns_are_counted_alike(tmp_path, num_more, is_good):
    # 19 columns and a quality; forks add more, but from 38 on it would be two rows on one line.
    path = tmp_path / "label.txt"
    path.write_text(f"# a.jpg\n1 2 3 4 {_UNLABELLED} {'5 6 0 ' * 3}{_UNLABELLED.replace('0', '1')}{' 7' * num_more}\n")
    if not is_good:
        for read in (lambda: wider_face.read(str(path)), lambda: annotation.read(path)):
            with pytest.raises(ValueError, match="label.txt:2: expected 4 numbers, or 19 and more"):
                read()
        return
    (trained,), (evaluated,) = wider_face.read(str(path)), annotation.read(path)
    # A point at -1 -1 is none, whatever its flag, to both.
    np.testing.assert_array_equal(trained.landmark_visible[0], [False, True, True, True, False])
    np.testing.assert_array_equal(np.isfinite(evaluated.landmarks[0, :, 0]), trained.landmark_visible[0])


def test_messages_are_cut():
    with pytest.raises(ValueError, match=re.escape("a.txt:3: expected numbers. Received: '" + "9" * 57 + "...'")):
        annotation_text.fail("a.txt:3", "numbers", "9" * 5000)


def test_a_superscript_is_no_count(tmp_path):
    path = tmp_path / "bbx_gt.txt"
    path.write_text("a.jpg\n²\n1 1 10 10 0 0 0 0 0 0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="bbx_gt.txt:2: expected the number of faces in a.jpg. Received: '²'"):
        wider_face.read(str(path))
    bad_data = record_lib.BadData("skip")
    assert wider_face.read(str(path), bad_data) == [] and bad_data.num_skipped == 1
