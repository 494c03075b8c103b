import numpy as np
import pytest

from keras_retinaface.geometry import landmark
from keras_retinaface.inference import merging
from keras_retinaface.inference import view as view_lib


def _random(num, seed=0, side=400):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, side - 60, (num, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 60, (num, 2))], axis=1).astype(np.float32)
    landmarks = (boxes[:, None, :2] + rng.uniform(0, 10, (num, 5, 2))).astype(np.float32)
    return merging.Detections(boxes, np.sort(rng.random(num).astype(np.float32))[::-1], landmarks)


def _faces(*rows):
    # x1, y1, x2, y2, score; the landmarks stand on the box's corner.
    rows = np.array(rows, np.float32)
    return merging.Detections(rows[:, :4], rows[:, 4], np.tile(rows[:, None, :2], (1, 5, 1)))


def _without_overlaps(faces, iou_threshold):
    # As views of one face each.
    return merging.merge([faces.select([row]) for row in range(len(faces.scores))], iou_threshold)


def _assert_same(found, expected, atol=0.0):
    assert (found.dense is None) == (expected.dense is None)
    for a, b in zip(found, expected):
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("use_voting", [False, True])
def test_merge_of_one_view_is_identity(use_voting):
    part = _random(30)
    _assert_same(merging.merge([part], 0.4, use_voting=use_voting), part)
    _assert_same(merging.merge([merging.empty(), part], 0.4, use_voting=use_voting), part)


@pytest.mark.parametrize("use_voting", [False, True])
def test_merge_of_a_view_with_itself_is_that_view(use_voting):
    part = _random(200)
    part = _without_overlaps(part, 0.4)
    _assert_same(merging.merge([part, part, part], 0.4, use_voting=use_voting), part, atol=1e-4)


def test_voting_worked_example():
    # Scores 0.9 and 0.3 weigh 3 : 1, so x1 = (3 * 10 + 14) / 4 = 11; the lonely face stays.
    first = _faces([10, 10, 50, 50, 0.9], [200, 200, 240, 240, 0.4])
    second = _faces([14, 10, 54, 50, 0.3])
    found = merging.merge([first, second], 0.4, use_voting=True)
    np.testing.assert_allclose(found.boxes, [[11, 10, 51, 50], [200, 200, 240, 240]], atol=1e-5)
    np.testing.assert_allclose(found.landmarks[:, 0], [[11, 10], [200, 200]], atol=1e-5)
    np.testing.assert_array_equal(found.scores, np.float32([0.9, 0.4]))


def test_without_voting_the_best_detection_stands():
    first, second = _faces([10, 10, 50, 50, 0.3]), _faces([14, 10, 54, 50, 0.9])
    _assert_same(merging.merge([first, second], 0.4), second)


def test_what_is_kept_equals_the_definition():
    part = _random(300, seed=1, side=200).select(np.random.default_rng(2).permutation(300))
    boxes, scores = part.boxes.astype(np.float64), part.scores
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        is_free = True
        for j in kept:
            size = np.maximum(np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2]), 0)
            areas = sum(np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j))
            is_free &= size.prod() <= 0.4 * (areas - size.prod())
        if is_free:
            kept.append(i)
    _assert_same(_without_overlaps(part, 0.4), part.select(kept))
    assert 20 < len(kept) < 250


def test_flip_mapped_back_equals_the_plain_view():
    part = _random(20)
    plain, mirrored = view_lib.views((400, 400), [1.0], flip=True)
    flipped = merging.Detections(
        np.stack([400 - part.boxes[:, 2], part.boxes[:, 1], 400 - part.boxes[:, 0], part.boxes[:, 3]], axis=1),
        part.scores,
        np.asarray(landmark.mirror(part.landmarks, 400)),
    )
    _assert_same(merging.to_image(flipped, mirrored), merging.to_image(part, plain), atol=1e-4)


def test_scale_and_tile_map_back():
    # A tile from (100, 50) at double size: (20, 40) of the picture is (110, 70) of the image.
    view = view_lib.View((100, 50, 200, 150), (200, 200), (400, 400))
    found = merging.to_image(_faces([20, 40, 60, 80, 0.9]), view)
    np.testing.assert_allclose(found.boxes, [[110, 70, 130, 90]])
    np.testing.assert_allclose(found.landmarks[0, 0], [110, 70])


def test_faces_cut_by_a_tile_are_dropped_and_those_at_the_image_border_stay():
    # The right tile of a 200-pixel wide image: its left edge is a cut, its right edge the image's own.
    view = view_lib.View((100, 0, 200, 100), (100, 100), (100, 200))
    found = merging.to_image(_faces([1, 20, 30, 50, 0.9], [60, -2, 103, 40, 0.8], [5, 60, 20, 80, 0.7]), view)
    np.testing.assert_array_equal(found.scores, np.float32([0.8, 0.7]))


def test_tiles_find_every_face_once():
    # A detector that sees what lies in a picture, cut where the picture ends.
    faces = _random(40, seed=3, side=1000)
    faces = _without_overlaps(faces, 0.1)
    parts = []
    for view in view_lib.views((1000, 1000), [1.0], flip=True, tile=300):
        if view.is_whole or view.is_flipped:
            continue
        x1, y1, x2, y2 = view.rectangle
        boxes = np.clip(faces.boxes, [x1, y1, x1, y1], [x2, y2, x2, y2]) - [x1, y1, x1, y1]
        seen = merging.is_large_enough(boxes, 5)
        parts.append(merging.to_image(merging.Detections(boxes, faces.scores, faces.landmarks).select(seen), view))
    np.testing.assert_allclose(merging.merge(parts, 0.4).boxes, faces.boxes, atol=1e-3)


def test_a_face_is_large_enough_by_its_shorter_side():
    boxes = np.array([[0, 0, 10, 30], [0, 0, 9.9, 30], [5, 5, 15, 15]], np.float32)
    np.testing.assert_array_equal(merging.is_large_enough(boxes, 10), [True, False, True])


@pytest.mark.parametrize("use_voting", [False, True])
def test_nothing_merges_to_nothing(use_voting):
    found = merging.merge([merging.empty(), merging.empty()], 0.4, use_voting=use_voting)
    assert [part.shape for part in found[:3]] == [(0, 4), (0,), (0, 5, 2)]
    assert merging.merge([], 0.4).boxes.shape == (0, 4)
    assert not merging.is_large_enough(np.zeros((0, 4)), 5).size
    view = view_lib.View((0, 0, 5, 5), (9, 9), (9, 9), True)
    assert merging.to_image(merging.empty(), view).landmarks.shape == (0, 5, 2)


def test_anchors_of_meshes_map_back_and_codes_stay():
    # The same tile as above, with an anchor from (20, 40) to (60, 80) of the picture.
    view = view_lib.View((100, 50, 200, 150), (200, 200), (400, 400))
    dense = np.concatenate([[20, 40, 60, 80], np.arange(144)])[None].astype(np.float32)
    found = merging.to_image(_faces([20, 40, 60, 80, 0.9])._replace(dense=dense), view)
    np.testing.assert_allclose(found.dense[0, :4], [110, 70, 130, 90])
    np.testing.assert_array_equal(found.dense[0, 4:], np.arange(144))
    # Of two detections of a face the code is the better one's, voting or not.
    other = found._replace(scores=np.float32([0.95]), dense=found.dense + 1)
    for use_voting in (False, True):
        merged = merging.merge([found, other], 0.4, use_voting=use_voting)
        np.testing.assert_array_equal(merged.dense, other.dense)


def test_meshes_of_mirrored_views_are_refused():
    dense = np.zeros((1, 148), np.float32)
    with pytest.raises(ValueError, match="meshes cannot be taken from a mirrored view"):
        mirrored = view_lib.views((400, 400), [1.0], flip=True)[1]
        merging.to_image(_faces([20, 40, 60, 80, 0.9])._replace(dense=dense), mirrored)


def test_uneven_parts_are_named():
    with pytest.raises(ValueError, match=r"equally many rows. Received: \[\(1, 4\), \(2,\), \(1, 5, 2\)\]"):
        merging.merge([merging.Detections(np.zeros((1, 4)), np.zeros(2), np.zeros((1, 5, 2)))], 0.4)
