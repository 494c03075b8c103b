import csv

import cv2
import numpy as np

from keras_retinaface.evaluation import curve, wider_face


def test_csv_holds_the_curves_and_png_shows_them(ground_truth, detections, tmp_path):
    curves = wider_face.precision_recall(detections, ground_truth)
    table, picture = curve.write_precision_recall(tmp_path / "new", curves)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3000
    for subset in wider_face.SUBSETS:
        recall = [float(row["recall"]) for row in rows if row["subset"] == subset]
        np.testing.assert_array_equal(recall, curves[subset].recall)
    image = cv2.imread(str(picture))
    # Three curves in matplotlib's first three colours (BGR), long enough to be lines and not specks.
    for colour in ((180, 119, 31), (14, 127, 255), (44, 160, 44)):
        assert (image == colour).all(axis=-1).sum() > 200


def test_legend_truncates_as_the_official_one():
    assert curve.legend("easy", 0.9146999) == "easy (0.914)"


def test_empty_values_stay_empty(tmp_path):
    path = curve.write_csv(tmp_path / "a.csv", "x y", [(1, float("nan")), (2, 0.5)])
    assert path.read_text() == "x,y\n1,\n2,0.5\n"
