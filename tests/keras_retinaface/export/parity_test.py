import numpy as np

from keras_retinaface.export import parity


def _faces(boxes, scores):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    landmarks = np.zeros([len(boxes), 5, 2], np.float32) + boxes[:, None, :2]
    return {"boxes": boxes, "scores": np.array(scores, np.float32), "landmarks": landmarks}


def _report(ours, theirs):
    report, differences = {"faces": 0, "faces_exported": 0, "unmatched": 0}, {"box": [], "landmark": [], "score": []}
    parity._compare(ours, theirs, report, differences)
    return report, differences


def test_partners_are_those_that_overlap_most_and_the_others_are_counted():
    ours = _faces([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8])
    # Of the first two the second overlaps the face by 90 / 110, the first by 70 / 130; the last lies by itself.
    theirs = _faces([[3, 0, 13, 10], [1, 0, 11, 10], [200, 0, 210, 10]], [0.7, 0.75, 0.6])
    report, differences = _report(ours, theirs)
    assert report == {"faces": 2, "faces_exported": 3, "unmatched": 1 + 2}
    assert differences["box"] == [1.0] and differences["landmark"] == [1.0]
    np.testing.assert_allclose(differences["score"], [0.15], atol=1e-6)


def test_no_faces_are_no_difference():
    report, differences = _report(_faces([], []), _faces([], []))
    assert report == {"faces": 0, "faces_exported": 0, "unmatched": 0} and differences["box"] == []
