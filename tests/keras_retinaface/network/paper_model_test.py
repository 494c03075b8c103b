"""The paper's network as a whole; `model_test` holds what all models share."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.export import parity, saved_model, tflite
from keras_retinaface.geometry import anchor
from keras_retinaface.layers import backbone, deform_conv
from keras_retinaface.network import model
from keras_retinaface.training import optimizer, start
from tests import batches

PAPER = config_lib.Config.preset("paper_resnet50")


def _small(**fields):
    """The paper's network with a light backbone and thin pyramid; its offsets are not zero."""
    retinaface = model.RetinaFace(PAPER.replace(backbone="mobilenet_v2", pyramid_channels=8, **fields))
    random = np.random.default_rng(0)
    for layer in retinaface.layers:
        if isinstance(layer, deform_conv.DeformableConv2D):
            layer.offset_bias.assign(random.uniform(-1, 1, layer.offset_bias.shape).astype(np.float32))
            layer.offset_kernel.assign(random.normal(0, 0.05, layer.offset_kernel.shape).astype(np.float32))
    return retinaface


def _image(*shape):
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


def test_shares_of_anchors_at_640():
    # Strides 4 to 64 and three anchors a location: 102,300, of which P2 has three quarters.
    counts = [len(anchor.generate((640, 640), (stride,), ((1.0,) * 3,))) for stride in PAPER.anchors.strides]
    assert counts == [76_800, 19_200, 4_800, 1_200, 300]


@pytest.mark.long
def test_any_height_and_width_in_one_trace():
    retinaface = _small(deform_sampler="sparse")

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def run(image):
        return retinaface(image, training=False)

    for size in ((33, 1999), (64, 64), (65, 127), (97, 31), (1, 1), (2160, 4096)):
        outputs = run(_image(1, *size, 3))
        num_anchors = len(anchor.generate(size, PAPER.anchors.strides, PAPER.anchors.sizes))
        assert {name: tuple(values.shape) for name, values in outputs.items()} == {
            "scores": (1, num_anchors, 2),
            "box_deltas": (1, num_anchors, 4),
            "landmark_deltas": (1, num_anchors, 5, 2),
        }
        assert all(np.all(np.isfinite(values)) for values in outputs.values())
    assert run.experimental_get_tracing_count() == 1


def test_batch_of_eight_is_eight_single_images():
    retinaface = _small()
    images = _image(8, 48, 70, 3)
    together = retinaface(images, training=False)
    for index in (0, 7):
        alone = retinaface(images[index : index + 1], training=False)
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][index], atol=1e-5, err_msg=name)


def test_extra_level_comes_from_c5():
    retinaface = _small()
    features = keras.Model(
        retinaface.inputs[0], [retinaface.get_layer("mobile_17_output").output, retinaface.get_layer("extra_P6").output]
    )
    c5, p6 = features(_image(1, 130, 200, 3), training=False)
    wanted = tf.nn.conv2d(
        tf.pad(c5, [[0, 0], [1, 1], [1, 1], [0, 0]]), retinaface.get_layer("extra_P6").kernel, 2, "VALID"
    )
    assert p6.shape == (1, 3, 4, 8)
    np.testing.assert_allclose(p6, wanted, atol=1e-4)
    limit = np.sqrt(6 / (9 * (320 + 8)))  # Xavier, uniform
    assert 0.9 * limit < np.max(np.abs(retinaface.get_layer("extra_P6").kernel)) <= limit


@pytest.mark.long
def test_frozen_stages_and_norms_keep_their_weights():
    retinaface = _small(frozen_stages=2, use_frozen_backbone_norms=True, use_deformable=False)
    start.freeze(retinaface, retinaface.config.training)
    before = {layer.name: [np.array(weight) for weight in layer.weights] for layer in retinaface.layers}
    retinaface.compile(optimizer=optimizer.make_optimizer(PAPER.training, 10, retinaface))
    retinaface.train_on_batch(_image(2, 64, 64, 3), batches.random_targets(PAPER, (64, 64), 2))
    changed = {
        layer.name
        for layer in retinaface.layers
        if any(np.any(np.array(weight) != old) for weight, old in zip(layer.weights, before[layer.name]))
    }
    frozen = {layer.name for layer in backbone.layers_up_to(retinaface, "C2")}
    assert not changed & frozen
    assert {"mobile_4_expand", "mobile_17_project", "merge_P2", "context_P6_7x7_3_bn", "class_head"} <= changed
    assert not {name for name in changed if name.startswith("mobile_") and name.endswith("_bn")}


def test_gradient_reaches_every_weight():
    retinaface = _small()
    # Bias of scores, so that the mean of no output hides a part.
    with tf.GradientTape() as tape:
        outputs = retinaface(_image(1, 64, 96, 3), training=True)
        loss = sum(tf.reduce_sum(tf.square(values)) for values in outputs.values())
    gradients = tape.gradient(loss, retinaface.trainable_variables)
    silent = [
        variable.name
        for variable, gradient in zip(retinaface.trainable_variables, gradients)
        if gradient is None or not np.any(np.abs(gradient) > 0)
    ]
    assert not silent


def test_mixed_precision_is_near_single():
    retinaface = _small()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = _small()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(retinaface.get_weights())
    image = _image(1, 64, 64, 3)
    single, half = (network(image, training=False) for network in (retinaface, mixed))
    for name in single:
        assert half[name].dtype == tf.float32
        np.testing.assert_allclose(half[name], single[name], atol=0.1 * float(np.max(np.abs(single[name]))))


@pytest.mark.long
def test_exports_find_what_the_model_finds(tmp_path, photos):
    import cv2

    # All five levels, slow as they are: with fewer, random weights leave scores on the threshold itself.
    retinaface = _small()
    detection = config_lib.Detection(score_threshold=0.5, max_faces=20)
    image = cv2.cvtColor(cv2.imread(str(photos / "astronaut.png")), cv2.COLOR_BGR2RGB)[:160, :192]
    saved_model.write(retinaface, tmp_path / "saved_model", detection)
    tflite.write(retinaface, tmp_path / "model.tflite", detection, image_size=(160, 192))
    assert {layer.sampler for layer in retinaface.layers if isinstance(layer, deform_conv.DeformableConv2D)} == {"auto"}
    for name in ("saved_model", "model.tflite"):
        report = parity.measure(retinaface, tmp_path / name, detection, [image])
        assert report["faces"] == report["faces_exported"] > 0
        assert report["unmatched"] == 0
        assert report["score"] < 1e-4
        assert report["box"] < 1e-2
