import numpy as np
import pytest

from keras_retinaface.evaluation import table
from keras_retinaface.inference import merging


def _found(*scores):
    boxes = np.arange(4.0 * len(scores), dtype=np.float32).reshape(-1, 4)
    return merging.Detections(boxes, np.array(scores, np.float32), np.zeros((len(scores), 5, 2)))


def test_rows_are_stacked_in_the_order_of_the_names():
    stacked = table.stack({"b": _found(0.5, 0.75), "a": _found(0.25), "else": _found(1)}, ["a", "none", "b"])
    assert (stacked.names, stacked.offsets.tolist()) == (("a", "none", "b"), [0, 1, 1, 3])
    assert stacked.rows.scores.tolist() == [0.25, 0.5, 0.75]
    assert stacked.rows.boxes.dtype == stacked.rows.scores.dtype == np.float64


def test_best_first_within_each_image_and_equal_ones_stay():
    stacked = table.stack({"a": _found(0.25, 0.5, 0.25, 0.5), "b": _found(0.75)}, ["none", "a", "b"])
    ordered = stacked.best_first()
    assert ordered.rows.scores.tolist() == [0.5, 0.5, 0.25, 0.25, 0.75]
    assert ordered.rows.boxes[:, 0].tolist() == [4, 12, 0, 8, 0]
    assert ordered.best_first() is ordered
    assert ordered.head(1).rows.scores.tolist() == [0.5, 0.75] and ordered.head(1).offsets.tolist() == [0, 0, 1, 2]
    part = ordered.select({"b", "c"})
    assert (part.names, part.offsets.tolist(), part.rows.scores.tolist()) == (("b",), [0, 1], [0.75])


def test_nothing_stacks_to_nothing():
    for names in ([], ["a", "b"]):
        stacked = table.stack({}, names).best_first().head(3)
        assert stacked.rows.boxes.shape == (0, 4) and stacked.offsets.tolist() == [0] * (len(names) + 1)


def test_what_is_not_finite_is_told_with_its_image():
    broken = _found(0.5, np.nan)
    with pytest.raises(ValueError, match=r"must be finite. Received: \[4.0, 5.0, 6.0, 7.0, nan\] for b"):
        table.stack({"a": _found(0.5), "b": broken}, ["a", "none", "b"])
