import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, matcher

# Four anchors of 16 x 16, centred at (8, 8), (24, 8), (8, 24), (24, 24): the quarters of the image.
QUARTERS = {"image_size": (32, 32), "strides": (16,), "sizes": ((16.0,),)}
THRESHOLDS = {"positive_iou": 0.5, "negative_iou": 0.3}
DESIGNS = ["mobilenet025", "paper_resnet50"]


def _assign(boxes, is_ignored=None, image_ids=None, num_images=1, **settings):
    boxes = tf.reshape(tf.convert_to_tensor(boxes, tf.float32), [-1, 4])
    num_faces = boxes.shape[0]
    is_ignored = tf.zeros([num_faces], tf.bool) if is_ignored is None else tf.convert_to_tensor(is_ignored)
    image_ids = tf.zeros([num_faces], tf.int32) if image_ids is None else tf.constant(image_ids, tf.int32)
    settings = {**QUARTERS, **THRESHOLDS, "keep_best_anchor": True, **settings}
    return matcher.assign(boxes, is_ignored, image_ids, num_images, **settings)


def test_worked_example():
    # Moved by 4 pixels: 12 x 16 shared, 192 / (512 - 192) = 0.6, positive; right: 4 x 16, 64 / 448 = 0.14, background.
    assigned = _assign([4, 0, 20, 16])
    np.testing.assert_array_equal(assigned.state, [[1, 0, 0, 0]])
    np.testing.assert_array_equal(assigned.anchors, [0])
    np.testing.assert_array_equal(assigned.faces, [0])


@pytest.mark.parametrize(("keep_best_anchor", "left"), [(True, matcher.POSITIVE), (False, matcher.IGNORED)])
def test_between_the_thresholds_only_a_claim_makes_positive(keep_best_anchor, left):
    # Moved by 6: 10 x 16 shared, 160 / 352 = 0.45. Right: 6 x 16, 96 / 416 = 0.23.
    assigned = _assign([6, 0, 22, 16], keep_best_anchor=keep_best_anchor)
    np.testing.assert_array_equal(assigned.state, [[left, 0, 0, 0]])


def test_equal_to_a_threshold_is_between():
    # 8 x 16 in 16 x 16 is exactly one half.
    assigned = _assign([0, 0, 8, 16], keep_best_anchor=False)
    np.testing.assert_array_equal(assigned.state, [[-1, 0, 0, 0]])


def test_the_larger_overlap_wins_an_anchor_and_each_image_has_its_own():
    boxes = [[4, 0, 20, 16], [1, 0, 17, 16], [2, 16, 18, 32]]
    assigned = _assign(boxes, image_ids=[0, 0, 1], num_images=2)
    np.testing.assert_array_equal(assigned.state, [[1, 0, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(assigned.anchors, [0, 4 + 2])
    np.testing.assert_array_equal(assigned.faces, [1, 2])


def test_ignored_faces_however_small_are_not_background():
    # 2 x 2 overlaps its anchor by 4 / 256, so only the growing to 16 x 16 can make it match.
    assigned = _assign([9, 9, 11, 11], is_ignored=[True])
    np.testing.assert_array_equal(assigned.state, [[-1, 0, 0, 0]])
    # A face that is learnt beats one that is ignored.
    assigned = _assign([[0, 0, 16, 16], [0, 0, 16, 16]], is_ignored=[True, False])
    np.testing.assert_array_equal(assigned.state, [[1, 0, 0, 0]])
    np.testing.assert_array_equal(assigned.faces, [1])


def test_no_face_and_a_face_without_area():
    np.testing.assert_array_equal(_assign(np.zeros([0, 4]), num_images=2).state, np.zeros([2, 4]))
    np.testing.assert_array_equal(_assign([5, 5, 5, 5]).state, np.zeros([1, 4]))


def _slow_twin(boxes, is_ignored, anchors, smallest, settings):
    """One face after the other, in float64, over all anchors."""
    boxes = boxes.astype(np.float64)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    best_iou, best_face = np.zeros(len(anchors)), np.full(len(anchors), -1)
    ignored_iou, claims, ignored_claims = np.zeros(len(anchors)), {}, []
    for face, box in enumerate(boxes):
        if is_ignored[face]:
            centre, half = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], smallest) / 2
            box = np.concatenate([centre - half, centre + half])
        shared = np.minimum(anchors[:, 2:], box[2:]) - np.maximum(anchors[:, :2], box[:2])
        shared = np.maximum(shared, 0).prod(axis=1)
        iou = shared / ((anchors[:, 2:] - anchors[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared)
        equals = np.flatnonzero(iou > iou.max() - 1e-6)
        best = equals[np.argmin(np.abs(centres[equals] - (box[:2] + box[2:]) / 2).sum(axis=1))]
        if is_ignored[face]:
            ignored_iou = np.maximum(ignored_iou, iou)
            ignored_claims.append(best)
        else:
            is_better = iou > best_iou + 1e-9
            best_iou[is_better], best_face[is_better] = iou[is_better], face
            if best not in claims or iou[best] > claims[best][0] + 1e-9:
                claims[best] = (iou[best], face)
    is_between = (best_iou >= settings["negative_iou"]) | (ignored_iou >= settings["negative_iou"])
    state = np.where(best_iou > settings["positive_iou"], 1, np.where(is_between, -1, 0))
    for best in ignored_claims:
        state[best] = state[best] or -1
    for best, (_, face) in claims.items():
        state[best], best_face[best] = 1, face
    return state, best_face


def _random_faces(rng, num_faces, smallest, largest, image_size):
    centre = rng.uniform(0, image_size[::-1], (num_faces, 2))
    size = np.exp(rng.uniform(np.log(smallest), np.log(largest), (num_faces, 1))) * rng.uniform(
        0.7, 1.4, (num_faces, 2)
    )
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return np.clip(boxes, 0, np.tile(image_size[::-1], 2)).astype(np.float32)


@pytest.mark.parametrize("preset", DESIGNS)
@pytest.mark.parametrize(
    ("num_faces", "smallest", "largest", "image_size", "max_pairs"),
    [
        (20, 4, 400, (640, 640), 1 << 18),
        (300, 4, 60, (640, 640), 1 << 18),
        # Sides that are no multiple of the strides, and many chunks.
        (60, 4, 300, (333, 470), 999),
    ],
)
def test_equals_slow_twin(preset, num_faces, smallest, largest, image_size, max_pairs, monkeypatch):
    monkeypatch.setattr(matcher, "MAX_PAIRS", max_pairs)
    design = config_lib.Config.preset(preset).anchors
    rng = np.random.default_rng(num_faces)
    boxes = _random_faces(rng, num_faces, smallest, largest, image_size)
    is_ignored = rng.random(num_faces) < 0.2
    anchors = anchor.generate(image_size, design.strides, design.sizes).numpy().astype(np.float64)
    state, faces = _slow_twin(boxes, is_ignored, anchors, design.sizes[0][0], THRESHOLDS)

    def fast(boxes, is_ignored):
        return _assign(boxes, is_ignored, image_size=image_size, strides=design.strides, sizes=design.sizes)

    for assigned in (fast(boxes, is_ignored), tf.function(fast)(boxes, is_ignored)):
        np.testing.assert_array_equal(assigned.state[0], state)
        np.testing.assert_array_equal(assigned.faces, faces[assigned.anchors])
    assert (state == 1).sum() > num_faces / 4 and (state == -1).sum() > 50


_CROWD = """
import resource
import tensorflow as tf
from keras_retinaface import config
from keras_retinaface.geometry import matcher
design = config.Config.preset("paper_resnet50").anchors
def match(num_faces):
    corner = tf.random.stateless_uniform([num_faces, 2], [0, 1], 0, 500)
    boxes = tf.concat([corner, corner + tf.random.stateless_uniform([num_faces, 2], [0, 2], 4, 140)], -1)
    return matcher.assign(boxes, tf.zeros([num_faces], tf.bool), tf.zeros([num_faces], tf.int32), 1,
        image_size=(640, 640), strides=design.strides, sizes=design.sizes,
        positive_iou=0.5, negative_iou=0.3, keep_best_anchor=True)
match = tf.function(match)
match(tf.constant(5))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
match(tf.constant(2000))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_stays_bounded_with_two_thousand_faces():
    # The whole matrix of 2,000 faces and 102,300 anchors would take 780 MiB for the overlaps alone.
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", _CROWD], capture_output=True, text=True, check=True)
    assert int(run.stdout.split()[-1]) < 96
