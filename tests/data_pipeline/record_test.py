import numpy as np
import pytest

from data_pipeline import record


def _record(image, *boxes, visible=True):
    points = ((1.0, 2.0),) * 5
    return record.make(image, [record.Face(box, points, (visible,) * 5) for box in boxes], f"file:{image}")


def test_join_takes_the_row_or_the_box_that_overlaps_most():
    mine = [_record("a.jpg", (0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60), visible=False)]
    # The second file has another order, one face fewer, and one that nobody has here.
    others = [_record("a.jpg", (21, 20, 31, 30), (0, 0, 10, 9), (90, 90, 99, 99)), _record("b.jpg")]
    others[0].landmarks[0] += 100
    joined = record.join_landmarks(mine, others)
    assert len(joined) == 1
    np.testing.assert_array_equal(joined[0].landmark_visible.all(axis=1), [True, True, False])
    np.testing.assert_array_equal(joined[0].landmarks[:, 0, 0], [1, 101, 0])
    np.testing.assert_array_equal(joined[0].boxes, mine[0].boxes)


def test_join_leaves_an_image_without_partner_without_landmarks():
    joined = record.join_landmarks([_record("a.jpg", (0, 0, 10, 10))], [_record("b.jpg", (0, 0, 10, 10))])
    assert not joined[0].landmark_visible.any()


def test_report_counts(caplog):
    bad_data = record.BadData("skip")
    for line in range(30):
        bad_data.add(f"label.txt:{line}", "4 numbers", "1 2 3")
    bad_data.num_skipped = 7
    bad_data.report(num_kept=93)
    assert bad_data.faults[3] == "label.txt:3: expected 4 numbers. Received: '1 2 3'"
    assert caplog.messages[-1].startswith("skipped 7 of 100 images for 30 faults; the first: label.txt:0")
    assert len(caplog.messages) == 22


def test_unknown_policy():
    with pytest.raises(ValueError, match="`on_bad_data` must be one of .* Received: on_bad_data='drop'"):
        record.BadData("drop")
