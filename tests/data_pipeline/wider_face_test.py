import re

import numpy as np
import pytest

from data_pipeline import record, wider_face

OFFICIAL = """0--Parade/a.jpg
2
449 330 122 149 0 0 0 0 0 0 
10 20 7 8 2 0 0 1 0 0 
0--Parade/none_as_in_train.jpg
0
0 0 0 0 0 0 0 0 0 0 
0--Parade/none_as_in_val.jpg
1
0 0 0 0 0 0 0 0 0 0 
1--Handshaking/b.jpg
2
1026 474 -2 23 0 0 0 0 0 0 
5 6 0 9 0 0 0 0 0 0 
"""  # noqa: W291 (the official rows end with a blank)
LABEL = """# 0--Parade/a.jpg
449 330 122 149 488.906 373.643 0.0 542.089 376.442 1.0 -1.0 -1.0 -1.0 485.174 425.893 0.0 538.357 431.491 0.0 0.82
78  221 7 8 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0 -1.0
# 0--Parade/none.jpg
0 0 0 0
# 0--Parade/nothing_at_all.jpg
# 1--Handshaking/b.jpg
10 20 30 40
"""


def _read(tmp_path, text, on_bad_data="fail"):
    path = tmp_path / "label.txt"
    path.write_text(text)
    bad_data = record.BadData(on_bad_data)
    return wider_face.read(str(path), bad_data), bad_data


def test_official_text(tmp_path):
    records, _ = _read(tmp_path, OFFICIAL)
    assert [(r.image, r.num_faces) for r in records] == [
        ("0--Parade/a.jpg", 2),
        ("0--Parade/none_as_in_train.jpg", 0),
        ("0--Parade/none_as_in_val.jpg", 0),
        ("1--Handshaking/b.jpg", 2),
    ]
    np.testing.assert_array_equal(records[0].boxes, [[449, 330, 571, 479], [10, 20, 17, 28]])
    np.testing.assert_array_equal(records[0].is_ignored, [False, True])
    # Faces without area are kept and ignored; a negative width becomes none.
    np.testing.assert_array_equal(records[3].boxes, [[1026, 474, 1026, 497], [5, 6, 5, 15]])
    np.testing.assert_array_equal(records[3].is_ignored, [True, True])


def test_label_text_with_missing_points_and_every_length_of_row(tmp_path):
    records, _ = _read(tmp_path, LABEL)
    assert [r.num_faces for r in records] == [2, 0, 0, 1]
    np.testing.assert_array_equal(records[0].landmark_visible, [[True, True, False, True, True], [False] * 5])
    np.testing.assert_allclose(records[0].landmarks[0, 1], [542.089, 376.442], rtol=1e-6)
    np.testing.assert_array_equal(records[0].landmarks[0, 2], [0, 0])
    np.testing.assert_array_equal(records[3].boxes, [[10, 20, 40, 60]])
    assert records[3].where == "label.txt:7"


@pytest.mark.parametrize(
    ("text", "message", "num_kept"),
    [
        ("# a.jpg\n1 2 3\n# b.jpg\n1 2 3 4\n", "label.txt:2: expected 4, 19 or 20 numbers", 1),
        ("# a.jpg\n1 2 nan 4\n# b.jpg\n1 2 3 4\n", "Received: '1 2 nan 4'", 1),
        ("# a.jpg\n1 2 three 4\n", "label.txt:2: expected 4, 19 or 20 numbers", 0),
        ("# a.jpg\n1 2 3 4\n# a header\n1 2 3 4\n", "label.txt:3: expected `# ` and the path of an image", 1),
        ("# a.jpg\n# b.jpg\n# ./a.jpg\n", "label.txt:3: expected every image once; first at label.txt:1", 2),
        ("a.jpg\n1\n1 2 3 4 0 0 0 0 0\nb.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n", "label.txt:3: expected 10 numbers", 1),
        ("a.jpg\nmany\nb.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n", "label.txt:2: expected the number of faces in a.jpg", 1),
        ("a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\nb.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n", "label.txt:4: expected 10 numbers", 1),
        ("a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n5 6 7 8 0 0 0 0 0 0\nb.jpg\n0\n", "label.txt:4: expected the path", 1),
        ("a.jpg\n0\nb.jpg\nx\n", "label.txt:4: expected the number of faces in b.jpg", 1),
        ("a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", "label.txt:4: expected 10 numbers", 0),
        ("1 2 3 4\n5 6 7 8\n", "label.txt:1: expected the path of an image", 0),
    ],
)
def test_faults_name_the_line_and_cost_their_image_only(tmp_path, text, message, num_kept):
    with pytest.raises(ValueError, match=re.escape(message)):
        _read(tmp_path, text)
    records, bad_data = _read(tmp_path, text, "skip")
    assert message in bad_data.faults[0]
    assert (len(records), bad_data.num_skipped > 0) == (num_kept, True)


@pytest.mark.shared
def test_the_research_data(shared):
    records = wider_face.read(str(shared / "wider_face" / "wider_face_train_bbx_gt.txt"))
    others = wider_face.read(str(shared / "wider_face" / "label_pseudo_landmarks.txt"))
    joined = record.join_landmarks(records, others)
    assert len(joined) == 2429
    assert sum(int(r.landmark_visible.any(axis=1).sum()) for r in joined) == 28305
    assert max(r.num_faces for r in joined) == 1968
