import importlib.util
import pathlib

import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.layers import backbone
from keras_retinaface.media import image_file
from keras_retinaface.network import model
from keras_retinaface.weights import arrays as arrays_lib
from keras_retinaface.weights import imagenet

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata"

_spec = importlib.util.spec_from_file_location("make_backbones", TESTDATA / "make_backbones.py")
make_backbones = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_backbones)


def _state(network):
    with np.load(TESTDATA / "backbones.npz") as golden:
        names, shapes = golden[f"{network}/names"], golden[f"{network}/shapes"]
    return {name: make_backbones.draw(name, tuple(map(int, shape.split(",")))) for name, shape in zip(names, shapes)}


def _model(name, layout="torchvision"):
    # The rest of the network is of no interest here.
    return model.RetinaFace(config_lib.Config().replace(backbone=name, backbone_layout=layout, pyramid_channels=4))


def _stages(retinaface, image):
    taps = backbone.taps(retinaface.config.network.backbone)
    outputs = {stage: retinaface.get_layer(tap).output for stage, tap in taps.items()}
    return keras.Model(retinaface.inputs[0], outputs)(image, training=False)


@pytest.mark.parametrize("network", ["resnet50", "mobilenet_v2"])
def test_torchvision_gives_the_same_maps(network, tmp_path):
    path = tmp_path / "state.npz"
    np.savez(path, **{f"module.{name}": array for name, array in _state(network).items()})
    retinaface = _model(network)
    neck = np.array(retinaface.get_layer("lateral_P5").kernel)
    imagenet.load(retinaface, path)
    outputs = _stages(retinaface, np.transpose(make_backbones.draw_image(), (0, 2, 3, 1)))
    with np.load(TESTDATA / "backbones.npz") as golden:
        for stage in ("C2", "C3", "C4", "C5"):
            wanted = golden[f"{network}/{stage}"]
            ours = np.array(outputs[stage])[..., : make_backbones.CHANNELS]
            np.testing.assert_allclose(ours, wanted, atol=2e-4, err_msg=stage)
    np.testing.assert_array_equal(retinaface.get_layer("lateral_P5").kernel, neck)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("network", ["resnet50", "mobilenet_v2"])
def test_keras_applications_gives_the_same_maps(network, tmp_path):
    size = (64, 96)
    if network == "resnet50":
        build, preprocess = keras.applications.ResNet50, keras.applications.resnet.preprocess_input
        names = {
            stage: f"conv{stage[1]}_block{depth}_out" for stage, depth in zip(("C2", "C3", "C4", "C5"), (3, 4, 6, 3))
        }
    else:
        build, preprocess = keras.applications.MobileNetV2, keras.applications.mobilenet_v2.preprocess_input
        names = {"C2": "block_2_add", "C3": "block_5_add", "C4": "block_12_add", "C5": "block_16_project_BN"}
    reference = build(weights=None, include_top=False, input_shape=(*size, 3))
    random = np.random.default_rng(3)
    for variable in reference.weights:
        near_one = any(word in variable.name for word in ("gamma", "variance"))
        if len(variable.shape) < 2:
            variable.assign((near_one + random.uniform(-0.3, 0.3, variable.shape)).astype(np.float32))
    path = tmp_path / "reference.h5"
    reference.save(path)
    retinaface = _model(network, "keras")
    imagenet.load(retinaface, path)
    image = random.integers(0, 256, (2, *size, 3)).astype(np.float32)
    outputs = _stages(retinaface, image)
    wanted = keras.Model(
        reference.inputs[0], {stage: reference.get_layer(name).output for stage, name in names.items()}
    )(preprocess(image.copy()), training=False)
    for stage in names:
        scale = np.std(wanted[stage])
        np.testing.assert_allclose(outputs[stage] / scale, wanted[stage] / scale, atol=2e-4, err_msg=stage)


def test_public_mobilenet_of_the_shared_data(shared, photos):
    retinaface = _model("mobilenet025")
    path = shared / "weights" / "mobilenetV1X0.25_pretrain.npz"
    imagenet.load(retinaface, path)
    arrays = arrays_lib.read_npz(path)
    first = np.transpose(arrays["module.stage1.0.0.weight"], (2, 3, 1, 0))[:, :, ::-1]  # BGR to RGB
    np.testing.assert_array_equal(retinaface.get_layer("stage1_0").kernel, first)
    np.testing.assert_array_equal(
        retinaface.get_layer("stage3_1_pointwise_bn").moving_variance, arrays["module.stage3.1.4.running_var"]
    )
    # Trained to tell images apart, so photos give maps that are neither dead nor huge.
    outputs = _stages(retinaface, image_file.read(photos / "astronaut.png")[None].astype(np.float32))
    assert 0.05 < np.std(outputs["C5"]) < 20


def test_the_other_layout_is_an_error():
    with pytest.raises(ValueError, match="has the layout of torchvision.*Received: backbone_layout='keras'"):
        imagenet.translate({}, config_lib.Network(backbone="resnet50", backbone_layout="keras"), "x", "torchvision")


def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path):
    retinaface, state = _model("mobilenet_v2"), _state("mobilenet_v2")
    before = np.array(retinaface.get_layer("mobile_0").kernel)
    path = tmp_path / "state.npz"
    np.savez(path, **{name: array for name, array in state.items() if name != "features.3.conv.2.weight"})
    with pytest.raises(ValueError, match=r"1 weights missing \(first: \['mobile_3_project/kernel'\]"):
        imagenet.load(retinaface, path)
    np.savez(path, **{**state, "features.3.conv.2.weight": np.zeros((1, 2, 3, 4), np.float32)})
    with pytest.raises(ValueError, match="mobile_3_project/kernel must have shape"):
        imagenet.load(retinaface, path)
    np.savez(path, **{**state, "features.19.weight": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match="features.19.weight is not a weight of mobilenet_v2"):
        imagenet.load(retinaface, path)
    np.testing.assert_array_equal(retinaface.get_layer("mobile_0").kernel, before)
    with pytest.raises(ValueError, match="no such file"):
        imagenet.load(retinaface, tmp_path / "none.npz")
    with pytest.raises(ValueError, match="expected one of .* Received: '.onnx'"):
        imagenet.load(retinaface, tmp_path / "none.onnx")
