import numpy as np
import pytest

from keras_retinaface.evaluation import annotation

LABEL = """# 0--Parade/a.jpg
10 20 30 40 11 21 0.0 31 22 1.0 20 30 0.0 12 50 0.0 -1 -1 -1.0 0.82
7 8 9 10 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 0.2
# 0--Parade/b.jpg
0 0 0 0
# 0--Parade/c.jpg
1 2 3 4 \n"""


def test_label_txt(tmp_path):
    path = tmp_path / "label.txt"
    path.write_text(LABEL)
    first, second, third = annotation.read(path)
    assert (first.image, second.image, third.image) == tuple(f"0--Parade/{name}.jpg" for name in "abc")
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [7, 8, 16, 18]])
    # An occluded point (flag 1) is annotated, a missing one (flag -1) is not.
    np.testing.assert_array_equal(first.landmarks[0], [[11, 21], [31, 22], [20, 30], [12, 50], [np.nan, np.nan]])
    assert np.isnan(first.landmarks[1]).all() and np.isnan(third.landmarks).all()
    # A face-free image has a row of zeros, which is no face.
    assert len(second.boxes) == 0 and len(third.boxes) == 1


def test_csv(tmp_path):
    path = tmp_path / "faces.csv"
    rows = ["a.jpg,10,20,30,40,1,2,3,4,5,6,7,8,9,10", "b.jpg,1,1,2,2,1,2,,,5,6,7,8,9,10", "a.jpg,0,0,5,5" + ",1" * 10]
    path.write_text("\n".join([",".join(annotation.CSV_COLUMNS), *rows]) + "\n")
    first, second = annotation.read(path)
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [0, 0, 5, 5]])
    np.testing.assert_array_equal(first.landmarks[0], [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]])
    assert np.isnan(second.landmarks[0, 1]).all() and np.isfinite(second.landmarks[0, 2]).all()


def test_xml_of_68_points_becomes_five(tmp_path):
    # Points on a line, (i, 2 i): the eye centres are the means of 36..41 and 42..47.
    parts = "".join(f"<part name='{i:02d}' x='{i}' y='{2 * i}'/>" for i in range(68))
    path = tmp_path / "faces.xml"
    path.write_text(
        f"<dataset><images><image file='a.jpg'><box top='1' left='2' width='30' height='40'>{parts}</box>"
        "<box top='5' left='6' width='7' height='8'/></image></images></dataset>"
    )
    (image,) = annotation.read(path)
    np.testing.assert_array_equal(image.boxes, [[2, 1, 32, 41], [6, 5, 13, 13]])
    np.testing.assert_array_equal(image.landmarks[0], [[38.5, 77], [44.5, 89], [30, 60], [48, 96], [54, 108]])
    assert np.isnan(image.landmarks[1]).all()


def test_five_points_of_true_faces_are_left_to_right(shared):
    annotations = annotation.read(shared / "dlib_faces" / "testing_with_face_landmarks.xml")
    points = np.concatenate([image.landmarks for image in annotations])
    assert len(points) == 25
    left_eye, right_eye, nose, left_mouth, right_mouth = np.moveaxis(points, 1, 0)
    assert (left_eye[:, 0] < right_eye[:, 0]).all() and (left_mouth[:, 0] < right_mouth[:, 0]).all()
    assert (nose[:, 1] > left_eye[:, 1]).all() and (nose[:, 1] < left_mouth[:, 1]).all()


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("label.txt", "1 2 3 4\n", r"label.txt:1: expected a `# path` line before the first row. Received: '1 2 3 4'"),
        ("label.txt", "# a.jpg\n1 2 3\n", r"label.txt:2: expected 4 numbers, or 19 and more: .* Received: '1 2 3'"),
        ("label.txt", "# a.jpg\n1 2 3 x\n", r"label.txt:2: expected 4 numbers"),
        ("f.csv", "image,x,y\n", r"f.csv:1: expected the columns image,x,y,width,.*; missing: width,height,x1"),
        ("f.csv", ",".join(annotation.CSV_COLUMNS) + "\na,1,2\n", r"f.csv:2: expected numbers"),
        ("f.xml", "<a>\n<b></a>", r"f.xml:2: not XML"),
        ("f.xml", "<a></a>", r"f.xml:1: expected <image> elements"),
    ],
)
def test_faults_are_named_with_file_and_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        annotation.read(tmp_path / name)


@pytest.mark.parametrize(
    "text, message",
    [
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>\n<a>&b;</a>", "f.xml:1: expected no document type: entities are not read"),
        (
            "<d>\n<image file='a.jpg'>\n<box top='1' left='2' width='x' height='4'/></image></d>",
            "f.xml:3: expected <box>",
        ),
        (
            "<d><image file='../a.jpg'/></d>",
            "f.xml:1: expected <image .*inside the folder of images. Received: '../a.jpg'",
        ),
        ("<a>" * 40 + "</a>" * 40, "f.xml:1: expected <image>, <box> and <part>. Received: .*32 deep"),
        ("<?xml version='1.0' encoding='no-such'?><a/>", "f.xml:1: not XML"),
    ],
)
def test_xml_that_is_refused(tmp_path, text, message):
    (tmp_path / "f.xml").write_text(text)
    with pytest.raises(ValueError, match=message):
        annotation.read(tmp_path / "f.xml")


def test_marks_do_not_hide_the_first_column(tmp_path):
    row = "a.jpg,0,0,5,5" + ",1" * 10
    (tmp_path / "f.csv").write_text(",".join(annotation.CSV_COLUMNS) + f"\n{row}\n", encoding="utf-8-sig")
    assert annotation.read(tmp_path / "f.csv")[0].image == "a.jpg"


def test_an_image_twice_is_told(tmp_path):
    (tmp_path / "label.txt").write_text("# a.jpg\n1 2 3 4\n# a.jpg\n5 6 7 8\n")
    with pytest.raises(ValueError, match="label.txt:3: expected every image once; first in line 1. Received: 'a.jpg'"):
        annotation.read(tmp_path / "label.txt")
