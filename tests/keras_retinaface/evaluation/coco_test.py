import contextlib
import dataclasses
import io
import zipfile

import numpy as np
import pytest

from keras_retinaface.evaluation import coco, prediction, table, wider_face
from keras_retinaface.inference import merging


def _reference(predictions, ground_truth, subset, max_detections):
    # pycocotools. It overwrites `ignore` by `iscrowd`, so ignored faces are put outside of an area range instead, where
    # the area of no detection is.
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation_module = pytest.importorskip("pycocotools.cocoeval")
    images, faces, found = [], [], []
    for i, name in enumerate(ground_truth.names):
        images.append({"id": i + 1})
        for row in range(ground_truth.offsets[i], ground_truth.offsets[i + 1]):
            x, y, w, h = (ground_truth.boxes[row] - [0, 0, *ground_truth.boxes[row, :2]]).tolist()
            if not (x or y or w or h):
                continue
            is_kept = subset is None or ground_truth.keep[subset][row]
            face = {"image_id": i + 1, "category_id": 1, "bbox": [x, y, w, h], "iscrowd": 0, "id": len(faces) + 1}
            faces.append({**face, "area": w * h if is_kept else -1.0})
        for x, y, w, h, score in prediction.to_rows(predictions.get(name, merging.empty()))[:, :5].tolist():
            found.append({"image_id": i + 1, "category_id": 1, "bbox": [x, y, w, h], "score": score})
    truth = coco_module.COCO()
    truth.dataset = {"images": images, "annotations": faces, "categories": [{"id": 1}]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = evaluation_module.COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["any"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, 0, 0], evaluation.eval["recall"][:, 0, 0, 0]


def _assert_equal(predictions, ground_truth, subset=None, max_detections=1000):
    precision, recall = _reference(predictions, ground_truth, subset, max_detections)
    detections = table.stack(predictions, ground_truth.names)
    result = coco.evaluate(detections, ground_truth, subset=subset, max_detections=max_detections)
    np.testing.assert_allclose(result.precision, precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.max_recall, recall, rtol=0, atol=1e-12)
    assert result.ap == pytest.approx(precision.mean(), abs=1e-12) and 0 < result.ap < result.ap50


@pytest.mark.parametrize("subset", [None, *wider_face.SUBSETS])
def test_mini_equals_pycocotools(ground_truth, predictions, subset):
    _assert_equal(predictions, ground_truth, subset=subset)


@pytest.mark.parametrize("max_detections", [3, 100])
@pytest.mark.parametrize("subset", [None, "medium"])
def test_crowds_with_ties_equal_pycocotools(subset, max_detections):
    # Faces and detections on a coarse grid: overlaps and scores tie all the time, and every face is fought for.
    rng = np.random.default_rng(5)
    names = tuple(f"0--A/{i:02d}" for i in range(12))
    boxes = np.concatenate([rng.integers(0, 4, (240, 2)) * 8, rng.integers(2, 5, (240, 2)) * 8], axis=1).astype(float)
    keep = dict.fromkeys(wider_face.SUBSETS, rng.random(240) < 0.6)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    ground_truth = wider_face.GroundTruth(names, np.arange(13) * 20, corners, keep)
    predictions = {}
    for i, name in enumerate(names):
        found = np.concatenate([boxes[20 * i : 20 * i + 20]] * 3) + rng.integers(-1, 2, (60, 4)) * 4
        predictions[name] = prediction.of_rows(np.column_stack([found, rng.integers(1, 8, 60) / 8]))
    _assert_equal(predictions, ground_truth, subset=subset, max_detections=max_detections)


@pytest.mark.parametrize("subset", [None, "hard"])
def test_validation_images_equal_pycocotools(shared, tmp_path, subset):
    # Every twelfth image: pycocotools takes half a minute for all of them.
    ground_truth = wider_face.load_ground_truth(shared / "wider_face" / "ground_truth")
    ground_truth = ground_truth.select(ground_truth.names[::12])
    zipfile.ZipFile(shared / "evaluation" / "jitter_low.zip").extractall(tmp_path)
    _assert_equal(prediction.read(tmp_path, ground_truth.names)[0], ground_truth, subset=subset)


def test_worked_example():
    # One face of 10 x 10; a detection of 10 x 7.5 on it has IoU 0.75, so it counts at .50 to .75: 6 of 10 thresholds.
    keep = dict.fromkeys(wider_face.SUBSETS, np.array([True]))
    ground_truth = wider_face.GroundTruth(("0--A/a",), np.array([0, 1]), np.array([[0.0, 0, 10, 10]]), keep)
    found = {"0--A/a": prediction.of_rows([[0, 0, 10, 7.5, 0.9]])}
    result = coco.evaluate(table.stack(found, ground_truth.names), ground_truth)
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((0.6, 1, 1), abs=1e-12)


def test_no_faces_give_nan_and_no_detections_zero(ground_truth):
    empty = table.stack({}, ground_truth.names)
    assert coco.evaluate(empty, ground_truth, subset="hard").ap == 0
    nothing = dict.fromkeys(wider_face.SUBSETS, np.zeros(len(ground_truth.boxes), bool))
    assert np.isnan(coco.evaluate(empty, dataclasses.replace(ground_truth, keep=nothing), subset="hard").ap)
    with pytest.raises(ValueError, match="`subset` must be one of .* Received: subset='tiny'"):
        coco.evaluate(empty, ground_truth, subset="tiny")
