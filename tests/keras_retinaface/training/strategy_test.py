import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import start, strategy
from keras_retinaface.weights import arrays, norms


@pytest.fixture
def asked():
    return []


@pytest.fixture
def make_batches(asked):
    """A stand-in for the pipeline that takes note of what it is asked for."""

    def make(**options):
        asked.append(options)
        return tf.data.Dataset.range(10).batch(options["batch_size"])

    return make


def test_each_worker_is_asked_for_its_share(make_batches, asked):
    strategy.distribute(strategy.make("one"), make_batches, 8, 5)
    assert asked == [{"batch_size": 8, "start_step": 5, "num_workers": 1, "worker": 0}]
    mirrored = tf.distribute.MirroredStrategy(["/cpu:0"])
    strategy.distribute(mirrored, make_batches, 8, 5)
    assert asked[1] == asked[0]
    with mirrored.scope():  # the callbacks of Keras run in here
        strategy.distribute(mirrored, make_batches, 8, 5)
    assert asked[2] == asked[0]


def test_validation_ends_with_the_last_full_batch_where_it_is_shared(make_batches):
    whole = strategy.distribute_whole(strategy.make("one"), make_batches, 4, 10)
    assert [len(batch) for batch in whole] == [4, 4, 2]
    mirrored = tf.distribute.MirroredStrategy(["/cpu:0"])
    assert [len(batch) for batch in strategy.distribute_whole(mirrored, make_batches, 4, 10)] == [4, 4]
    with pytest.raises(ValueError, match="`val_annotations` must hold at least one batch.*batch_size=16, 10 images"):
        strategy.distribute_whole(mirrored, make_batches, 16, 10)


def test_what_the_environment_lacks_is_named(monkeypatch):
    with pytest.raises(ValueError, match="`strategy` must be one of .* Received: strategy='many'"):
        strategy.make("many")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG in the environment"):
        strategy.make("multi_worker")


def test_reasons_are_cut_out_of_pages():
    message = (
        "Graph execution error:\n\nDetected at node Reduce defined at (most recent call last):\n"
        '  File "train_main.py", line 7, in <module>\n\n'
        "Collective ops is aborted by: task:1 heartbeat timeout.\n"
        "The error could be from a previous operation. Restart your program to reset.\n\t [[{{node Reduce}}]] [Op:f]"
    )
    error = tf.errors.UnavailableError(None, None, message)
    alone = strategy.explain(error, "one")
    assert isinstance(alone, OSError) and str(alone) == "Collective ops is aborted by: task:1 heartbeat timeout."
    lost = str(strategy.explain(error, "multi_worker"))
    assert lost.startswith("another worker was lost; start the same command") and lost.endswith(str(alone))


def test_reasons_of_assertions_stand_alone():
    @tf.function
    def fail(name):
        done = tf.debugging.Assert(False, [tf.strings.join([name, ": expected 4 [or 19] numbers"]), "twice"])
        with tf.control_dependencies([done]):
            return tf.identity(name)

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        fail(tf.constant("label.txt:3"))
    assert str(strategy.explain(caught.value, "one")) == "label.txt:3: expected 4 [or 19] numbers twice"


def test_half_precision_trains_and_stays_close():
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    whole = model_lib.RetinaFace()
    start.initialise(whole, "mobilenet025_public")
    norms.unfold_norms(whole, [image])  # without norms the weights diverge
    with pytest.raises(RuntimeError), strategy.precision(strategy.make("one"), is_mixed=True):
        raise RuntimeError  # what fails must not leave the next model in half precision
    assert keras.mixed_precision.global_policy().name == "float32"
    with strategy.precision(strategy.make("one"), is_mixed=True):
        mixed = model_lib.RetinaFace()
    arrays.assign(mixed, arrays.read(whole), "whole")
    assert mixed.get_layer("stage1_0").compute_dtype == "bfloat16"
    outputs, expected = mixed(image, training=False), whole(image, training=False)
    for name, value in expected.items():
        assert outputs[name].dtype == tf.float32
        # bfloat16 has eight bits: the difference is seen, and small beside what the outputs say.
        difference = np.abs(outputs[name] - value)
        assert 0 < difference.mean() < 0.05 * np.abs(value).mean(), name
    anchors = anchor.generate((64, 64), mixed.config.anchors.strides, mixed.config.anchors.sizes)
    shape = (2, len(anchors))
    targets = {
        "state": (np.arange(np.prod(shape)) % 9 == 0).astype(np.int32).reshape(shape),
        "box_deltas": np.zeros((*shape, 4), np.float32),
        "landmark_deltas": np.zeros((*shape, 5, 2), np.float32),
        "landmark_weight": np.ones((*shape, 5), np.float32),
        "matched_box": np.tile(np.array([8, 8, 24, 24], np.float32), (*shape, 1)),
    }
    start.freeze(mixed, config_lib.Training(use_frozen_norms=True))
    mixed.compile(optimizer=keras.optimizers.SGD(1e-3))
    history = mixed.fit(tf.data.Dataset.from_tensors((image, targets)), epochs=4, verbose=0, shuffle=False).history
    loss = whole.compute_loss(image, tf.nest.map_structure(tf.constant, targets), expected)
    np.testing.assert_allclose(history["loss"][0], loss, rtol=0.05)
    assert np.all(np.isfinite(history["loss"])) and np.all(np.diff(history["loss"]) < 0), history
    assert all(np.asarray(value).dtype == np.float32 for value in arrays.read(mixed).values())
