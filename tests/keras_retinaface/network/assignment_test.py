import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, matcher
from keras_retinaface.network import assignment

_SIZE = (96, 128)
_ANCHORS = config_lib.Anchors()


def _anchors(settings):
    return anchor.generate(_SIZE, settings.strides, settings.sizes).numpy().astype(np.float64)


def _iou(boxes, face):
    shared = np.prod(np.maximum(np.minimum(boxes[:, 2:], face[2:]) - np.maximum(boxes[:, :2], face[:2]), 0), axis=1)
    return shared / (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(face[2:] - face[:2]) - shared), shared


def _decode(deltas, anchors):
    centre, side = 0.5 * (anchors[:, :2] + anchors[:, 2:]), anchors[:, 2:] - anchors[:, :2]
    centre, size = centre + deltas[:, :2] * 0.1 * side, side * np.exp(np.minimum(deltas[:, 2:] * 0.2, 4.0))
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def _twin(faces, is_ignored, logits, deltas, settings):
    """Returns the face of every anchor of one image, -1 for background and -2 for ignored: face by face, in float64."""
    anchors = _anchors(settings)
    num_cells = [-(-_SIZE[0] // stride) * -(-_SIZE[1] // stride) for stride in settings.strides]
    strides = np.repeat(settings.strides, np.array(num_cells) * settings.num_per_location)
    variances = np.array(settings.variances)
    predicted = _decode(deltas * np.repeat(variances / [0.1, 0.2], 2), anchors)
    centre, side = 0.5 * (anchors[:, :2] + anchors[:, 2:]), anchors[:, 2] - anchors[:, 0]
    owner, price = np.full(len(anchors), -1), np.full(len(anchors), np.inf)
    for number, face in enumerate(faces):
        if is_ignored[number]:
            continue
        inside = ((centre > face[:2]) & (centre < face[2:])).all(axis=1)
        near = (np.abs(centre - 0.5 * (face[:2] + face[2:])) < 1.5 * strides[:, None]).all(axis=1)
        overlap = np.where(inside | near, _iou(predicted, face)[0], 0)
        cost = np.log1p(np.exp(-logits)) - 3 * np.log(np.maximum(overlap, 1e-4))
        cost += abs(np.log(np.sqrt(np.prod(np.maximum(face[2:] - face[:2], 1))) / side)) + 3.0 * ~(inside & near)
        cost[~(inside | near)] = np.inf
        wanted = max(int(np.sort(overlap)[-10:].sum()), 1)
        for row in np.argsort(cost, kind="stable")[:wanted]:
            if cost[row] < price[row]:
                owner[row], price[row] = number, cost[row]
    for face in faces[is_ignored]:
        overlap, shared = _iou(predicted, face)
        shares = _iou(anchors, face)[1] / side**2, shared / np.prod(predicted[:, 2:] - predicted[:, :2], axis=1)
        owner[(owner == -1) & ((np.maximum(*shares) > 0.5) | (overlap > 0.3))] = -2
    return owner


def _draw(rng, num, smallest, largest):
    side = np.exp(rng.uniform(np.log(smallest), np.log(largest), (num, 1))) * rng.uniform(0.8, 1.25, (num, 2))
    centre = rng.uniform(0, 1, (num, 2)) * _SIZE[::-1]
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1).astype(np.float32)


def _outputs(rng, batch, num_anchors):
    logits = rng.normal(-1, 2, (batch, num_anchors)).astype(np.float32)
    scores = np.stack([0.3 * logits, 1.3 * logits], -1)
    deltas = rng.normal(0, 1.5, (batch, num_anchors, 4)).astype(np.float32)
    return {"scores": tf.constant(scores), "box_deltas": tf.constant(deltas)}


def _targets(faces, is_ignored, rng):
    """Pads lists of faces with rubbish that is not finite."""
    most = max(len(f) for f in faces) + 1
    padded = [np.concatenate([f, np.full((most - len(f), 4), np.nan, np.float32)]) for f in faces]
    flags = [np.concatenate([flag, np.zeros(most - len(flag), bool)]) for flag in is_ignored]
    boxes = np.stack(padded)
    points = boxes[..., None, :2] + rng.random((*boxes.shape[:2], 5, 2)) * 10
    return {
        "faces": tf.constant(boxes),
        "face_landmarks": tf.constant(points, tf.float32),
        "landmark_visible": tf.constant(rng.random((*boxes.shape[:2], 5)) < 0.7),
        "is_ignored": tf.constant(np.stack(flags)),
        "num_faces": tf.constant([len(f) for f in faces], tf.int32),
    }


@pytest.fixture(scope="module", params=["mobilenet025", "paper_resnet50"])
def traced(request):
    """The anchors of a preset, and one graph for all numbers of images and faces."""
    settings = config_lib.Config.preset(request.param).anchors

    @tf.function(reduce_retracing=True, autograph=False)
    def encode(targets, outputs):
        return assignment.encode(targets, outputs, _SIZE, settings)

    def spec(*shape, dtype=tf.float32):
        return tf.TensorSpec([None, *shape], dtype)

    faces = {"faces": spec(None, 4), "face_landmarks": spec(None, 5, 2), "num_faces": spec(dtype=tf.int32)}
    faces.update(landmark_visible=spec(None, 5, dtype=tf.bool), is_ignored=spec(None, dtype=tf.bool))
    return settings, encode.get_concrete_function(faces, {"scores": spec(None, 2), "box_deltas": spec(None, 4)})


def _compare(faces, is_ignored, settings, rng, encode):
    outputs = _outputs(rng, len(faces), len(_anchors(settings)))
    targets = _targets(faces, is_ignored, rng)
    encoded = encode(targets, outputs)
    owners = []
    for image, (boxes, flags) in enumerate(zip(faces, is_ignored)):
        scores = outputs["scores"][image].numpy().astype(np.float64)
        deltas = outputs["box_deltas"][image].numpy().astype(np.float64)
        owner = _twin(boxes.astype(np.float64), flags, scores[:, 1] - scores[:, 0], deltas, settings)
        expected = np.where(owner >= 0, matcher.POSITIVE, np.where(owner == -2, matcher.IGNORED, matcher.NEGATIVE))
        np.testing.assert_array_equal(encoded["state"][image], expected)
        positive = owner >= 0
        np.testing.assert_array_equal(encoded["matched_box"][image][positive], boxes[owner[positive]])
        weight = targets["landmark_visible"][image].numpy()[owner[positive]]
        np.testing.assert_array_equal(encoded["landmark_weight"][image][positive], weight)
        owners.append(owner)
    assert all(np.isfinite(value).all() for value in encoded.values())
    return owners


@pytest.mark.parametrize("case", ["tiny", "large", "overlapping", "outside", "ignored", "none"])
def test_equals_a_slow_twin(traced, case):
    rng = np.random.default_rng([7, len(case)])
    faces = {
        "tiny": lambda: [_draw(rng, num, 1, 9) for num in (5, 0, 12)],
        "large": lambda: [_draw(rng, 3, 60, 200), _draw(rng, 1, 300, 400)],
        "overlapping": lambda: [np.repeat(_draw(rng, 4, 12, 60), 3, axis=0) + rng.normal(0, 2, (12, 4)).astype("f4")],
        "outside": lambda: [_draw(rng, 4, 8, 40) + np.float32(200), _draw(rng, 3, 8, 60) - np.float32([40, 0] * 2)],
        "ignored": lambda: [_draw(rng, num, 5, 80) for num in (6, 25)],
        "none": lambda: [np.zeros((0, 4), np.float32)] * 2,
    }[case]()
    share = 0.5 if case == "ignored" else 0.0
    settings, encode = traced
    owners = _compare(faces, [rng.random(len(f)) < share for f in faces], settings, rng, encode)
    assert (case == "ignored") == any((owner == -2).any() for owner in owners)
    assert (case != "none") == any((owner >= 0).any() for owner in owners)


def test_three_hundred_faces_in_parts(monkeypatch):
    # Few pairs at once, so that faces, and ignored ones, are taken in many parts.
    monkeypatch.setattr(matcher, "MAX_PAIRS", 1500)
    rng = np.random.default_rng(3)
    faces = [_draw(rng, 300, 4, 60), _draw(rng, 2, 20, 40), _draw(rng, 30, 4, 120)]
    flags = [rng.random(300) < 0.05, np.ones(2, bool), rng.random(30) < 0.6]
    owners = _compare(faces, flags, _ANCHORS, rng, lambda *args: assignment.encode(*args, _SIZE, _ANCHORS))
    assert len(np.unique(owners[0])) > 100 and set(owners[1]) == {-1, -2}


def test_worked_example():
    # The face is the anchor (16, 16, 32, 32) but 2 px wider; outputs that are 0 predict every anchor as it is.
    num = len(_anchors(_ANCHORS))
    outputs = {"scores": tf.zeros([1, num, 2]), "box_deltas": tf.zeros([1, num, 4])}
    targets = _targets([np.float32([[16, 16, 34, 32]])], [np.zeros(1, bool)], np.random.default_rng(0))
    encoded = assignment.encode(targets, outputs, _SIZE, _ANCHORS)
    # Overlaps of its ten best candidates sum to between 3 and 4.
    positive = _anchors(_ANCHORS)[encoded["state"][0].numpy() == matcher.POSITIVE]
    assert len(positive) == 3
    np.testing.assert_array_equal(positive[0], [12, 12, 28, 28])


def test_no_gradient_passes():
    rng = np.random.default_rng(0)
    outputs = {name: tf.Variable(value) for name, value in _outputs(rng, 1, len(_anchors(_ANCHORS))).items()}
    targets = _targets([_draw(rng, 3, 10, 40)], [np.array([False, True, False])], rng)
    with tf.GradientTape() as tape:
        encoded = assignment.encode(targets, outputs, _SIZE, _ANCHORS)
        total = tf.add_n([tf.reduce_sum(tf.cast(value, tf.float32)) for value in encoded.values()])
    assert tape.gradient(total, list(outputs.values())) == [None, None]
