import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
from keras_retinaface.network import objective
from tests import batches


def _loss_of(**changes):
    """Returns the loss and its terms for fixed outputs: two images with 1 and 3 positive anchors of 42."""
    config = config_lib.Config().replace(**changes)
    losses = objective.Objective(config.loss, config.anchors, has_dense=False)
    rng = np.random.default_rng(5)
    targets = batches.targets(config, batches.images(2, 32, 32), 1)
    targets["state"][1, :3] = 1
    shapes = {"scores": (2,), "box_deltas": (4,), "landmark_deltas": (5, 2)}
    outputs = {name: tf.constant(rng.normal(size=(2, 42, *tail)), tf.float32) for name, tail in shapes.items()}
    loss = losses.loss(batches.images(2, 32, 32), targets, outputs)
    terms = {name: tracker.result() for name, tracker in losses.trackers.items()}
    return float(loss), terms, targets["state"], outputs["scores"].numpy()


def test_losses_are_chosen_by_the_config():
    loss, terms, state, scores = _loss_of(class_weight=2.0, box_weight=0.5, landmark_weight=0.25)
    assert loss == pytest.approx(
        2.0 * float(terms["class_loss"]) + 0.5 * float(terms["box_loss"]) + 0.25 * float(terms["landmark_loss"])
    )
    entropy = np.log1p(np.exp(np.where(state == 1, -1, 1) * (scores[..., 1] - scores[..., 0])))
    hardest = [sorted(entropy[image][state[image] == 0])[-keep:] for image, keep in ((0, 3), (1, 9))]
    per_image = entropy[state == 1].sum() + np.sum(hardest[0]) + np.sum(hardest[1])
    assert float(terms["class_loss"]) == pytest.approx(per_image / (4 + 12), rel=1e-5)

    _, terms, _, _ = _loss_of(ohem_pool="batch")
    per_batch = entropy[state == 1].sum() + np.sum(sorted(entropy[state == 0])[-12:])
    assert float(terms["class_loss"]) == pytest.approx(per_batch / 16, rel=1e-5)
    only_class = {"box_weight": 0.0, "landmark_weight": 0.0}
    loss, _, _, _ = _loss_of(class_count="positive", **only_class)
    assert loss == pytest.approx(per_image / 4, rel=1e-5)

    loss, terms, _, _ = _loss_of(
        class_loss="focal", focal_gamma=0.0, focal_alpha=0.5, box_weight=0.0, landmark_weight=0
    )
    assert loss == pytest.approx(0.5 * entropy.sum() / 4, rel=1e-5)

    entropy = np.where(state == 1, np.log1p(np.exp(scores[..., 0] - scores[..., 1])), 0)
    _, terms, _, _ = _loss_of(class_loss="quality", quality_target="one", focal_alpha=0.9999999)
    assert float(terms["class_loss"]) == pytest.approx(entropy.sum() / 4, rel=1e-3)

    names = {name: float(_loss_of(box_loss=name)[1]["box_loss"]) for name in config_lib.BOX_LOSSES}
    assert 0 < names["giou"] < 2 and 0 < names["ciou"] < 3 and len(set(names.values())) == 4


def test_parts_of_a_batch_count_as_the_batch():
    config = config_lib.Config().replace(ohem_pool="batch", negative_ratio=30.0)
    losses = objective.Objective(config.loss, config.anchors, has_dense=False)
    given = batches.targets(config, batches.images(2, 32, 32), 1)
    targets = {name: tf.constant(value) for name, value in given.items()}
    # One pool of 2 faces and 82 others keeps 60; of two pools each keeps 30 of 41.
    assert float(losses.counts(targets)["class_loss"]) == 2 + 60
    assert float(losses.counts(targets, num_parts=2)["class_loss"]) == 2 + 60
    ignored = {**targets, "state": tf.concat([targets["state"][:1], -tf.ones([1, 42], tf.int32)], 0)}
    assert float(losses.counts(ignored)["class_loss"]) == 1 + 30


def _dynamic(**changes):
    keras.utils.set_random_seed(0)  # whether a few steps lower the loss hangs on the start
    """Returns a model that assigns by its outputs, an image without faces, one of two and an ignored one, and more."""
    recipe = {"assignment": "dynamic", "class_loss": "quality", "box_loss": "eiou"}
    model = model_lib.RetinaFace(config_lib.Config().replace(**recipe, **changes))
    faces = np.zeros((2, 3, 4), np.float32)
    faces[1] = [[2, 2, 16, 18], [8, 14, 22, 30], [17, 0, 32, 20]]
    targets = {
        "faces": faces,
        "face_landmarks": np.repeat(faces[:, :, None, :2], 5, 2) + 4,
        "landmark_visible": np.ones((2, 3, 5), bool),
        "is_ignored": np.array([[False] * 3, [False, False, True]]),
        "num_faces": np.array([0, 3], np.int32),
    }
    return model, batches.images(2, 32, 32), {name: tf.constant(value) for name, value in targets.items()}


@pytest.mark.long
def test_dynamic_assignment_trains_on_faces():
    model, images, targets = _dynamic()
    outputs = model(images)
    loss = model.compute_loss(images, targets, outputs)
    encoded = model.objective.assigned(images, targets, outputs)
    assert (encoded["state"][0] == 0).numpy().all() and set(encoded["state"][1].numpy()) == {-1, 0, 1}
    # What the outputs make of faces counts like targets that were given.
    assert float(model.compute_loss(images, encoded, outputs)) == pytest.approx(float(loss), rel=1e-6)
    model.compile(optimizer=keras.optimizers.Adam(0.001))
    data = tf.data.Dataset.from_tensors((images, targets)).repeat()
    history = model.fit(data, epochs=2, steps_per_epoch=5, verbose=0, shuffle=False).history
    assert history["loss"][1] < history["loss"][0] and history["box_loss"][0] > 0 and history["landmark_loss"][0] > 0


@pytest.mark.long
def test_dynamic_assignment_in_parts_weighs_parts_alike():
    model, images, targets = _dynamic(accumulate_steps=2, batch_size=2)
    both = [tf.concat([value[1:], value[1:]], 0) for value in (images, *targets.values())]
    images, targets = both[0], dict(zip(targets, both[1:]))
    outputs = model(images)
    whole = float(model.compute_loss(images, targets, outputs))
    halves = [[{name: v[i : i + 1] for name, v in d.items()} for d in (targets, outputs)] for i in (0, 1)]
    assert model.objective.counts(targets, 2) is None
    parts = [float(model.objective.share(images[:1], t, o, None, num_parts=2)) for t, o in halves]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(tf.data.Dataset.from_tensors((images, targets)), verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"][0])
