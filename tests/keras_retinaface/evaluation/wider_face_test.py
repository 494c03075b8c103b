import json
import time
import zipfile

import numpy as np
import pytest

from keras_retinaface.evaluation import prediction, table, wider_face

BIG_SETS = ("jitter_low", "jitter_high", "edges")


def _one_image(boxes_xywh, keep=None):
    boxes = prediction.of_rows(np.pad(np.array(boxes_xywh, np.float64), ((0, 0), (0, 1)))).boxes
    keep = np.ones(len(boxes), bool) if keep is None else np.array(keep, bool)
    return wider_face.GroundTruth(
        ("0--A/a",), np.array([0, len(boxes)]), boxes, dict.fromkeys(wider_face.SUBSETS, keep)
    )


def _evaluate(rows, ground_truth, **options):
    """Evaluates rows of the text format, by image or those of the only one."""
    rows = rows if isinstance(rows, dict) else {"0--A/a": rows}
    found = {name: prediction.of_rows(image) for name, image in rows.items()}
    return wider_face.evaluate(table.stack(found, ground_truth.names), ground_truth, **options)


def _xywh(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _reference(predictions, ground_truth, subset, compat):
    # The protocol as it is told, one detection and one threshold after the other.
    number = np.float32 if compat == "matlab" else np.float64
    start = (np.finfo(np.float32).max, np.finfo(np.float32).tiny) if compat == "matlab" else (1.0, 0.0)
    scores = [row[4] for rows in predictions.values() for row in rows]
    lowest, highest = number(min([start[0], *scores])), number(max([start[1], *scores]))
    totals, num_faces = np.zeros((1000, 2)), 0
    for i, name in enumerate(ground_truth.names):
        rows = slice(ground_truth.offsets[i], ground_truth.offsets[i + 1])
        faces, keep = _xywh(ground_truth.boxes[rows]), ground_truth.keep[subset][rows]
        num_faces += keep.sum()
        found = predictions.get(name, [])
        if not len(found) or not len(faces):
            continue
        if compat == "matlab":
            found = sorted(found, key=lambda row: -row[4])
        is_found, is_counted, num_found = set(), [], []
        for x, y, w, h, _ in found:
            overlaps = []
            for fx, fy, fw, fh in faces:
                iw = min(x + w, fx + fw) - max(x, fx) + 1
                ih = min(y + h, fy + fh) - max(y, fy) + 1
                area = (x + w - x + 1) * (y + h - y + 1) + (fw + 1) * (fh + 1)
                overlaps.append(iw * ih / (area - iw * ih) if iw > 0 and ih > 0 else 0)
            face = int(np.argmax(overlaps))
            is_hit = overlaps[face] >= 0.5
            is_counted.append(not is_hit or keep[face])
            if is_hit and keep[face]:
                is_found.add(face)
            num_found.append(len(is_found))
        scaled = [float((number(row[4]) - lowest) / (highest - lowest)) for row in found]
        for t in range(1000):
            reached = [k for k in range(len(scaled)) if scaled[k] >= 1 - (t + 1) / 1000]
            if reached:
                totals[t] += sum(is_counted[: reached[-1] + 1]), num_found[reached[-1]]
    with np.errstate(invalid="ignore"):
        return totals[:, 1] / totals[:, 0], totals[:, 1] / num_faces


def test_mini_equals_the_public_port(mini, ground_truth, detections):
    expected = json.loads((mini / "expected.json").read_text())
    for compat, key in (("matlab", "fast_matlab"), ("python", "python_port")):
        result = wider_face.evaluate(detections, ground_truth, compat=compat)
        for subset in wider_face.SUBSETS:
            assert result[subset] == pytest.approx(expected[key][subset], abs=1e-12)
    assert (result["images"], result["faces"]) == (30, ground_truth.num_faces)


def test_mini_curves_equal_the_public_port_at_every_threshold(mini, ground_truth, detections):
    expected = np.load(mini / "expected_pr.npz")
    curves = wider_face.precision_recall(detections, ground_truth, compat="python")
    for i, subset in enumerate(wider_face.SUBSETS):
        np.testing.assert_array_equal(curves[subset].precision, expected["precision"][i])
        np.testing.assert_array_equal(curves[subset].recall, expected["recall"][i])


@pytest.mark.parametrize("compat", prediction.COMPATS)
@pytest.mark.parametrize("kind", ["probabilities", "logits", "negative", "on thresholds"])
def test_random_sets_equal_the_protocol_told_in_loops(ground_truth, kind, compat):
    rng = np.random.default_rng(3)
    predictions = {}
    for i, name in enumerate(ground_truth.names[:-2]):
        faces = _xywh(ground_truth.boxes[ground_truth.offsets[i] : ground_truth.offsets[i + 1]])
        boxes = np.repeat(faces, 3, axis=0) + rng.integers(-6, 7, (3 * len(faces), 4))
        scores = {
            "probabilities": rng.random,
            "logits": lambda n: rng.normal(0, 3, n),
            "negative": lambda n: -1 - rng.random(n),
            "on thresholds": lambda n: rng.integers(0, 41, n) / 40,
        }[kind](len(boxes))
        predictions[name] = np.column_stack([boxes, scores])
    found = {name: prediction.of_rows(rows) for name, rows in predictions.items()}
    curves = wider_face.precision_recall(table.stack(found, ground_truth.names), ground_truth, compat=compat)
    for subset in wider_face.SUBSETS:
        precision, recall = _reference(predictions, ground_truth, subset, compat)
        np.testing.assert_array_equal(curves[subset].recall, recall)
        np.testing.assert_array_equal(curves[subset].precision, precision)


@pytest.mark.parametrize("name", BIG_SETS)
def test_whole_validation_set_equals_the_official_code(shared, tmp_path, name):
    ground_truth = wider_face.load_ground_truth(shared / "wider_face" / "ground_truth")
    zipfile.ZipFile(shared / "evaluation" / f"{name}.zip").extractall(tmp_path)
    predictions, missing = prediction.read(tmp_path, ground_truth.names)
    assert not missing and ground_truth.num_faces == 39_704
    expected = json.loads((shared / "evaluation" / "expected.json").read_text())[name]
    detections = table.stack(predictions, ground_truth.names)
    for compat, key in (("matlab", "official_matlab"), ("python", "python_port")):
        result = wider_face.evaluate(detections, ground_truth, compat=compat)
        for subset in wider_face.SUBSETS:
            assert result[subset] == pytest.approx(expected[key][subset], abs=1e-9)


def test_million_detections_take_about_a_second(shared):
    ground_truth = wider_face.load_ground_truth(shared / "wider_face" / "ground_truth")
    rng = np.random.default_rng(0)
    predictions = {
        name: np.column_stack([rng.uniform(0, 1000, (500, 2)), rng.uniform(5, 80, (500, 2)), rng.random(500)])
        for name in ground_truth.names
    }
    found = {name: prediction.of_rows(rows) for name, rows in predictions.items()}
    begin = time.perf_counter()
    wider_face.evaluate(table.stack(found, ground_truth.names), ground_truth)
    # One second on a quiet core; the bound leaves room for a busy machine and still catches a loop over detections.
    assert time.perf_counter() - begin < 5


def test_second_hit_is_false_and_ignored_hit_is_neutral():
    # Two kept faces far apart and an ignored one. By score: hit, second hit (false), ignored (neutral), hit, nothing.
    faces = [[0, 0, 9, 9], [100, 0, 9, 9], [200, 0, 9, 9]]
    rows = [[0, 0, 9, 9, 0.9], [0, 0, 9, 9, 0.8], [200, 0, 9, 9, 0.7], [100, 0, 9, 9, 0.6], [300, 0, 9, 9, 0.5]]
    result = _evaluate(rows, _one_image(faces, [1, 1, 0]))
    # Precision 1/1 up to recall 1/2, then 2/3 up to recall 1.
    assert result["hard"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-12)


def test_overlap_of_exactly_one_half_finds_a_face():
    # 10 x 10 pixels (9 + 1) within 10 x 20: 100 / 200. One pixel more and it is 100 / 210.
    for height, expected in ((19, 1.0), (20, 0.0)):
        rows = np.array([[0, 0, 9, height, 0.9], [500, 500, 1, 1, 0.1]])
        assert _evaluate(rows, _one_image([[0, 0, 9, 9]]))["easy"] == expected


def test_equal_scores_give_zero_as_the_official_code_does():
    rows = np.array([[0, 0, 9, 9, 0.5], [50, 0, 9, 9, 0.5]])
    for compat in prediction.COMPATS:
        assert _evaluate(rows, _one_image([[0, 0, 9, 9]]), compat=compat)["hard"] == 0


def test_no_predictions_give_zero_and_no_faces_give_nan(ground_truth):
    assert _evaluate({}, ground_truth)["hard"] == 0
    result = _evaluate({}, _one_image([[0, 0, 0, 0]], [0]))
    assert np.isnan(result["hard"]) and result["faces"] == 0


def test_a_part_equals_a_ground_truth_that_never_had_the_others(ground_truth, predictions):
    names = [name for name in ground_truth.names if name.startswith("1--")]
    part = ground_truth.select(names)
    result = wider_face.evaluate(table.stack(predictions, part.names), part)
    assert result["images"] == 6
    rows = {name: prediction.to_rows(predictions[name]) for name in names}
    for subset in wider_face.SUBSETS:
        precision, recall = _reference(rows, part, subset, "matlab")
        curve = wider_face.Curve(precision, recall, int(part.keep[subset].sum()))
        assert result[subset] == pytest.approx(wider_face.average_precision(curve), abs=1e-12)
    everything = ground_truth.select(ground_truth.names[::-1])
    assert everything.names == ground_truth.names
    np.testing.assert_array_equal(everything.boxes, ground_truth.boxes)


def test_errors_name_what_came(ground_truth, detections, tmp_path):
    with pytest.raises(ValueError, match=r"1 images are not in the ground truth. Received: '9--X/y' first"):
        ground_truth.select(["9--X/y"])
    part = detections.select(detections.names[1:])
    with pytest.raises(ValueError, match="`detections` must be of the 30 images of the ground truth. Received: 29 im"):
        wider_face.evaluate(part, ground_truth)
    with pytest.raises(ValueError, match="`compat` must be one of .* Received: compat='octave'"):
        wider_face.evaluate(detections, ground_truth, compat="octave")
    with pytest.raises(FileNotFoundError, match="wider_face_val.mat is missing"):
        wider_face.load_ground_truth(tmp_path)
