import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, matcher

# 64 x 64 with one level of stride 16: centres at 8, 24, 40, 56, anchors of 16 x 16, index 4 * row + column.
ONE_LEVEL = config_lib.Anchors(strides=(16,), sizes=((16.0,),))
MOBILENET = config_lib.Anchors()
PAPER = config_lib.Config.preset("paper_resnet50").anchors
_NEAR = 1e-5


def _assign(boxes, is_ignored=None, image_ids=None, num_images=1, image_size=(64, 64), anchors=ONE_LEVEL):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return matcher.assign(
        tf.constant(boxes),
        tf.constant(np.zeros(len(boxes), bool) if is_ignored is None else np.asarray(is_ignored, bool)),
        tf.constant(np.zeros(len(boxes), np.int32) if image_ids is None else np.asarray(image_ids, np.int32)),
        num_images,
        image_size=image_size,
        strides=anchors.strides,
        sizes=anchors.sizes,
        positive_iou=anchors.positive_iou,
        negative_iou=anchors.negative_iou,
        keep_best_anchor=anchors.keep_best_anchor,
        compensation=anchors.compensation,
    )


def _slow(boxes, is_ignored, image_size, design):
    """Compares every face with every anchor in float64; returns state, face (-1) and where rounding could decide."""
    anchors = anchor.generate(image_size, design.strides, design.sizes).numpy().astype(np.float64)
    boxes, centre = boxes.astype(np.float64).copy(), 0.5 * (boxes[:, :2] + boxes[:, 2:]).astype(np.float64)
    for row in np.flatnonzero(is_ignored):
        half = 0.5 * np.maximum(boxes[row, 2:] - boxes[row, :2], min(min(level) for level in design.sizes))
        boxes[row] = np.concatenate([centre[row] - half, centre[row] + half])
    overlap = np.zeros((len(anchors), len(boxes)))
    for row, box in enumerate(boxes):
        side = np.clip(np.minimum(anchors[:, 2:], box[2:]) - np.maximum(anchors[:, :2], box[:2]), 0, None)
        shared = side.prod(1)
        overlap[:, row] = shared / ((anchors[:, 2:] - anchors[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared)
    gain = np.clip(design.compensation / np.maximum(overlap.max(0), 1e-9), 1.0, 4.0)
    plain, overlap = overlap, overlap * gain  # claims go by the overlap itself
    usable = np.where(is_ignored[None], 0.0, overlap)
    face, best = usable.argmax(1), usable.max(1)
    hidden = np.where(is_ignored[None], overlap, 0.0).max(1)
    is_positive, is_between = (
        best > design.positive_iou,
        (best >= design.negative_iou) | (hidden >= design.negative_iou),
    )
    doubtful = np.abs(np.stack([best, hidden])[..., None] - [design.positive_iou, design.negative_iou]).min((0, 2))
    doubtful = doubtful < _NEAR
    if design.keep_best_anchor:
        claims = {}
        for row in range(len(boxes)):
            highest = plain[:, row].max()
            if highest <= 0:
                continue
            equals = np.flatnonzero(plain[:, row] > highest - 1e-9)
            middle = 0.5 * (anchors[equals, :2] + anchors[equals, 2:])
            distance = np.abs(middle - centre[row]).sum(1)
            at = equals[np.argmin(np.round(distance, 4))]
            if is_ignored[row]:
                is_between[at] = True
            elif at not in claims or highest > claims[at][0]:
                claims[at] = highest, row
        for at, (_, row) in claims.items():
            is_positive[at], face[at] = True, row
    state = np.where(is_positive, matcher.POSITIVE, np.where(is_between, matcher.IGNORED, matcher.NEGATIVE))
    return state, np.where(is_positive, face, -1), doubtful


def _faces(assignment):
    """Returns the face of every anchor, -1 where there is none, as `[B, A]`."""
    faces = np.full(assignment.state.numpy().size, -1)
    faces[assignment.anchors.numpy()] = assignment.faces.numpy()
    return faces.reshape(assignment.state.shape)


def _scene(rng, num_faces, image_size, crowded):
    height, width = image_size
    largest = 24 if crowded else 0.9 * min(image_size)
    size = np.exp(rng.uniform(np.log(1.5), np.log(largest), (num_faces, 1))) * rng.uniform(0.7, 1.4, (num_faces, 2))
    # Some faces hang over the border, a few lie outside.
    centre = rng.uniform(-0.02, 1.02, (num_faces, 2)) * [width, height]
    return np.concatenate([centre - size / 2, centre + size / 2], 1).astype(np.float32)


def test_worked_example():
    # Face (0, 0, 16, 16) is anchor 0 itself. The face (20, 16, 36, 32) is moved by 4 from anchor 5 (16..32): shared
    # 12 x 16 = 192 of 512 - 192 = 320: 0.6, positive; anchor 6 (32..48) shares 4 x 16 = 64 of 448: 0.14, background.
    # The face (38, 48, 54, 64) lies over anchors 14 (32..48), 160 of 352 = 0.45, and 15 (48..64), 96 of 416 = 0.23:
    # positive by its claim alone.
    assignment = _assign([[0, 0, 16, 16], [20, 16, 36, 32], [38, 48, 54, 64]])
    state = np.zeros(16, int)
    state[[0, 5, 14]] = matcher.POSITIVE
    np.testing.assert_array_equal(assignment.state[0], state)
    np.testing.assert_array_equal(assignment.anchors, [0, 5, 14])
    np.testing.assert_array_equal(assignment.faces, [0, 1, 2])


def test_without_claims_the_overlap_between_is_ignored():
    design = dataclasses.replace(ONE_LEVEL, keep_best_anchor=False)
    assignment = _assign([[20, 16, 36, 32], [38, 48, 54, 64]], anchors=design)
    state = np.zeros(16, int)
    state[5], state[14] = matcher.POSITIVE, matcher.IGNORED
    np.testing.assert_array_equal(assignment.state[0], state)


def test_a_face_claims_its_best_anchor_however_small():
    # 2 x 2 inside anchor 0 of 16 x 16: overlap 4 / 256; the same but ignored only hides its anchor.
    state = np.zeros(16, int)
    state[0] = matcher.POSITIVE
    np.testing.assert_array_equal(_assign([[3, 3, 5, 5]]).state[0], state)
    # Where two claim one anchor the larger wins.
    assignment = _assign([[3, 3, 5, 5], [9, 9, 12, 12]])
    np.testing.assert_array_equal(assignment.state[0], state)
    np.testing.assert_array_equal(assignment.faces, [1])


def test_a_claim_takes_an_anchor_from_a_face_that_matches_it_better():
    # Stride 4: face 0 is the anchor at (18, 18), 4 * 16 + 4, and shares 0.6 with its neighbour at (22, 18), the best
    # one of face 1, which overlaps it by 4 / 256 only.
    design = config_lib.Anchors(strides=(4,), sizes=((16.0,),))
    faces = _faces(_assign([[10, 10, 26, 26], [21, 17, 23, 19]], anchors=design))[0]
    assert faces[68] == faces[67] == 0 and faces[69] == 1


def test_compensation_gives_a_small_face_the_anchors_that_a_large_one_has():
    # 8 x 8 about the corner shared by four anchors: each overlaps 16 / (256 + 64 - 16) = 0.0526, a gain of 4 at most.
    design = dataclasses.replace(ONE_LEVEL, positive_iou=0.2, negative_iou=0.15, keep_best_anchor=False)
    box = [12.0, 12.0, 20.0, 20.0]
    assert not (_assign([box], anchors=design).state.numpy() == matcher.POSITIVE).any()
    assignment = _assign([box], anchors=dataclasses.replace(design, compensation=0.5))
    np.testing.assert_array_equal(np.flatnonzero(assignment.state.numpy()), [0, 1, 4, 5])
    # An anchor's own box reaches the bound without help.
    own = [0.0, 0.0, 16.0, 16.0]
    for compensation in (0.0, 0.5):
        state = _assign([own], anchors=dataclasses.replace(design, compensation=compensation)).state.numpy()
        np.testing.assert_array_equal(np.flatnonzero(state), [0])


def test_of_equal_overlaps_the_nearest_anchor_and_the_first_face():
    # A face of 4 x 4 at (13, 13) lies whole in anchors of 32 centred at 8 and 24 (stride 16); 8 is nearer.
    design = config_lib.Anchors(strides=(16,), sizes=((32.0,),))
    np.testing.assert_array_equal(_assign([[11, 11, 15, 15]], anchors=design).anchors, [0])
    np.testing.assert_array_equal(_assign([[19, 11, 23, 15]], anchors=design).anchors, [1])
    np.testing.assert_array_equal(_assign([[0, 0, 16, 16]] * 3).faces, [0])


@pytest.mark.parametrize(
    "design",
    [
        MOBILENET,
        PAPER,
        dataclasses.replace(MOBILENET, keep_best_anchor=False),
        dataclasses.replace(MOBILENET, compensation=0.6),
    ],
)
@pytest.mark.parametrize("crowded", [False, True])
def test_equals_the_slow_twin(design, crowded):
    rng = np.random.default_rng(5)
    image_size = (160, 224)
    counts = (0, 150, 1) if crowded else (6, 0, 12)
    scenes = [_scene(rng, count, image_size, crowded) for count in counts]
    ignored = [rng.random(count) < 0.3 for count in counts]
    ids = np.repeat(np.arange(len(counts)), counts)
    assignment = _assign(np.concatenate(scenes), np.concatenate(ignored), ids, len(counts), image_size, design)
    faces, first = _faces(assignment), 0
    for image, (boxes, is_ignored) in enumerate(zip(scenes, ignored)):
        if len(boxes):
            state, face, doubtful = _slow(boxes, is_ignored, image_size, design)
            assert doubtful.mean() < 0.01
            np.testing.assert_array_equal(assignment.state[image].numpy()[~doubtful], state[~doubtful])
            face = np.where(face < 0, -1, face + first)
            np.testing.assert_array_equal(faces[image][~doubtful], face[~doubtful])
        else:
            assert (assignment.state[image].numpy() == matcher.NEGATIVE).all()
        first += len(boxes)
    assert set(np.unique(assignment.state)) == {matcher.POSITIVE, matcher.NEGATIVE, matcher.IGNORED}


def test_ignored_faces_hide_background_and_never_lend_themselves():
    # The ignored face equals anchor 5; of anchor 0 a real face has 0.6 beside an ignored one that equals it.
    assignment = _assign([[16, 16, 32, 32], [4, 0, 20, 16], [0, 0, 16, 16]], [True, False, True])
    state = np.zeros(16, int)
    state[5], state[0] = matcher.IGNORED, matcher.POSITIVE
    np.testing.assert_array_equal(assignment.state[0], state)
    np.testing.assert_array_equal(assignment.faces, [1])


def test_an_ignored_face_too_small_to_see_hides_the_smallest_anchor():
    # A point at anchor 10's centre counts as 16 x 16 there; a face without area is no different.
    for box in ([39, 39, 41, 41], [40, 40, 40, 40]):
        state = np.zeros(16, int)
        state[10] = matcher.IGNORED
        for keep in (True, False):
            design = dataclasses.replace(ONE_LEVEL, keep_best_anchor=keep)
            np.testing.assert_array_equal(_assign([box], [True], anchors=design).state[0], state)


def test_no_faces_and_faces_outside():
    for boxes in (np.zeros((0, 4)), [[100, 100, 140, 140]], [[-50, -50, -20, -20]], [[8, 8, 8, 30]]):
        assignment = _assign(boxes, num_images=2)
        np.testing.assert_array_equal(assignment.state, np.zeros((2, 16)))
        assert assignment.anchors.shape == (0,) and assignment.faces.shape == (0,)


def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    boxes = _scene(np.random.default_rng(1), 40, (96, 128), False)
    is_ignored = np.arange(40) % 5 == 0
    whole = _assign(boxes, is_ignored, image_size=(96, 128), anchors=PAPER)
    monkeypatch.setattr(matcher, "MAX_PAIRS", 37)
    for mine, other in zip(_assign(boxes, is_ignored, image_size=(96, 128), anchors=PAPER), whole):
        np.testing.assert_array_equal(mine, other)


def test_two_thousand_faces_stay_in_bounds(monkeypatch):
    # All against all would be 2,000 x 102,300 floats, 780 MiB. The spy sees how many pairs there are at once.
    boxes = _scene(np.random.default_rng(2), 2000, (640, 640), False)
    real, most, total = matcher._anchor_and_iou, [0], [0]

    def spy(boxes, cell, kind, kinds):
        num = int(np.prod(cell.shape[:-1]))
        most[0], total[0] = max(most[0], num), total[0] + num
        return real(boxes, cell, kind, kinds)

    monkeypatch.setattr(matcher, "_anchor_and_iou", spy)
    assignment = _assign(boxes, image_size=(640, 640), anchors=PAPER)
    assert assignment.state.shape == (1, 102300)
    # Twenty numbers of four bytes a pair under 64 MiB, of which there are several chunks.
    assert 0 < most[0] <= matcher.MAX_PAIRS and matcher.MAX_PAIRS * 20 * 4 < 64 << 20
    assert total[0] < 0.05 * 2000 * 102300


def test_in_graph_as_eager():
    boxes = _scene(np.random.default_rng(3), 30, (128, 128), False)
    ids = (np.arange(30) % 3).astype(np.int32)
    is_ignored = np.arange(30) % 4 == 0
    eager = _assign(boxes, is_ignored, ids, 3, (128, 128), MOBILENET)

    def match(boxes, is_ignored, ids, image_size):
        return matcher.assign(
            boxes,
            is_ignored,
            ids,
            3,
            image_size=image_size,
            strides=MOBILENET.strides,
            sizes=MOBILENET.sizes,
            positive_iou=0.5,
            negative_iou=0.3,
            keep_best_anchor=True,
        )

    inputs = tf.data.Dataset.from_tensors((boxes, is_ignored, ids, np.array([128, 128], np.int32)))
    for mine, other in zip(next(iter(inputs.map(match))), eager):
        np.testing.assert_array_equal(mine, other)
