"""ONNX files: the faces of the Keras model, of standard operators, at any size and batch."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.export import parity
from keras_retinaface.formats import onnx_file
from keras_retinaface.inference import detector, onnx_check, runtime
from keras_retinaface.media import image_file
from keras_retinaface.network import decoding
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import shipped

onnx_lib = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("keras_retinaface.export.onnx")

DETECTION = config_lib.Detection()


@pytest.fixture(scope="module")
def model():
    return model_lib.RetinaFace.from_preset("mobilenet025")


@pytest.fixture(scope="module")
def onnx_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "retinaface.onnx"
    onnx.write(model, path, DETECTION, source="mobilenet025")
    return path


@pytest.fixture
def crowd(photos):
    """A photo without a face, one with 1, one with 29 and one with over 200."""
    astronaut, solvay = (image_file.read(photos / name) for name in ("astronaut.png", "solvay1927.jpg"))
    many = cv2.resize(np.tile(solvay, (3, 3, 1)), (1280, 576), interpolation=cv2.INTER_AREA)
    return [np.ascontiguousarray(astronaut[256:]), astronaut, solvay, many]


def _check(report, at_least):
    assert report["faces"] == report["faces_exported"] > at_least and report["unmatched"] == 0
    assert report["box"] < 0.01 and report["landmark"] < 0.01 and report["score"] < 1e-4


def _check_same(found, wanted, pixels):
    """Compares faces; those of equal scores may stand in another order."""
    count = int(wanted["count"][0])
    assert found["count"][0] == count
    for place in range(count):
        nearest = np.abs(found["boxes"][0] - wanted["boxes"][0, place]).max(-1).argmin()
        for key in ("boxes", "landmarks", "scores"):
            limit = 1e-3 if key == "scores" else pixels
            np.testing.assert_allclose(found[key][0, nearest], wanted[key][0, place], rtol=0, atol=limit)


def test_the_faces_are_those_of_keras(model, onnx_path, crowd):
    odd = cv2.resize(crowd[2], (451, 317), interpolation=cv2.INTER_AREA)
    tiny = [np.full((height, width, 3), 90, np.uint8) for height, width in ((1, 1), (33, 7))]
    _check(parity.measure(model, onnx_path, DETECTION, [*crowd, odd, *tiny]), 250)
    said = onnx_lib.load(onnx_path)
    assert [(entry.domain, entry.version) for entry in said.opset_import] == [("", 17)]
    metadata = {entry.key: entry.value for entry in said.metadata_props}
    assert (metadata["model"], metadata["mean"], metadata["score_threshold"]) == (
        "mobilenet025",
        "[123.0, 117.0, 104.0]",
        "0.5",
    )


def test_a_batch_holds_what_its_images_hold(onnx_path, crowd):
    many = crowd[3]
    empty = np.full_like(many, 128)
    one = empty.copy()
    one[:512, :512] = crowd[1]
    run = runtime.open_model(str(onnx_path), DETECTION).run
    found = run(np.stack([many, empty, one]))
    assert found["count"][0] > 200 and found["count"][1:].tolist() == [0, 1]
    for index, image in enumerate((many, empty, one)):
        alone = run(image[None])
        for name, values in found.items():
            np.testing.assert_allclose(values[index], alone[name][0], atol=1e-3)
    assert not found["boxes"][1].any() and not found["landmarks"][2, 1:].any() and not found["scores"][2, 1:].any()


def test_options_of_detection_hold(model, onnx_path, tmp_path, crowd):
    path = tmp_path / "options.onnx"
    detection = config_lib.Detection(score_threshold=0.3, iou_threshold=0.3, max_faces=40, voting_iou=0.5)
    onnx.write(model, path, detection)
    _check(parity.measure(model, path, detection, crowd[2:]), 60)
    voted, plain = (runtime.open_model(file, DETECTION).run(crowd[2][None])["boxes"] for file in (path, onnx_path))
    assert np.abs(voted[:, :25] - plain[:, :25]).max() > 0.3
    with pytest.raises(ValueError, match="`voting_iou` is fixed at export"):
        detector.Detector(str(path), voting_iou=0.5)
    # In a batch, candidates behind those of an image with few do not vote.
    run = runtime.open_model(str(path), DETECTION).run
    one = np.full_like(crowd[3], 128)
    one[:512, :512] = crowd[1]
    np.testing.assert_allclose(run(np.stack([crowd[3], one]))["boxes"][1], run(one[None])["boxes"][0], atol=1e-3)


def test_a_fixed_size_and_half_the_bytes(model, onnx_path, tmp_path, crowd):
    path = tmp_path / "small.onnx"
    onnx.write(model, path, DETECTION, image_size=(240, 321), quantize="float16")
    assert path.stat().st_size < 0.6 * onnx_path.stat().st_size
    assert runtime.open_model(path, DETECTION).image_sizes == ((240, 321),)
    report = parity.measure(model, path, DETECTION, crowd)
    assert report["faces"] > 20 and report["unmatched"] <= 1 and report["score"] < 0.02 and report["box"] < 0.5
    assert len(detector.Detector(path).detect_batch(crowd[:2])[1]) == 1
    with pytest.raises(ValueError, match="`quantize` of ONNX must be one of .* Received: quantize='int4'"):
        onnx.write(model, path, DETECTION, quantize="int4")


def test_int8_finds_nearly_the_same(model, onnx_path, tmp_path, crowd):
    path = tmp_path / "int8.onnx"
    fitted = [cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA) for image in crowd[:3]]
    onnx.write(model, path, DETECTION, quantize="int8", calibration_images=fitted[1:], source="mobilenet025")
    assert path.stat().st_size < 0.5 * onnx_path.stat().st_size
    report = parity.measure(model, path, DETECTION, fitted)
    assert report["faces"] > 25 and report["unmatched"] <= 2 and report["score_mean"] < 0.02 and report["box_mean"] < 1
    content, parts = onnx_check.read(path)
    assert onnx_file.check_seal(content) and parts.metadata["quantization"] == "int8" and parts.domains == {""}
    graph = onnx_lib.load(path).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    inputs = {node.name: node.input for node in graph.node if node.op_type == "Conv"}
    behind = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    is_int8 = {name: kinds.get(behind.get(values[1])) == onnx_lib.TensorProto.INT8 for name, values in inputs.items()}
    assert is_int8["stage2_1_depthwise"] and is_int8["context_P4_3x3"] and is_int8["lateral_P5"]
    assert not is_int8["stage1_0"] and not is_int8["class_P3"] and not is_int8["landmark_P5"]


def test_int8_needs_photos_and_layers_that_are_there(model, tmp_path, crowd):
    path = tmp_path / "int8.onnx"
    with pytest.raises(ValueError, match="`calibration_images` must name at least one image"):
        onnx.write(model, path, DETECTION, quantize="int8")
    asked = {"quantize": "int8", "calibration_images": crowd[:1], "float_layers": ["stage9*"]}
    with pytest.raises(ValueError, match="`float_layers` must match layers .* Received: ..stage9"):
        onnx.write(model, path, DETECTION, **asked)
    assert not path.exists()


_LEVELS = {"strides": (16, 32, 64), "sizes": ((16.0, 32.0), (64.0,) * 2, (128.0, 256.0)), "variances": (1.0, 1.0)}
_DEFORMABLE = {"use_deformable": True, "use_shared_heads": True, "negative_slope": 0.0}


@pytest.mark.parametrize(
    ("network", "levels"),
    [
        ({"backbone": "mobilenet_v2", "backbone_layout": "keras", **_DEFORMABLE}, _LEVELS),
        ({"backbone": "resnet50"}, {}),
    ],
)
def test_other_networks_compute_the_same(tmp_path, network, levels):
    anchors = config_lib.Anchors(**levels)
    made = model_lib.RetinaFace(
        config_lib.Config(network=config_lib.Network(pyramid_channels=16, **network), anchors=anchors)
    )
    random = np.random.default_rng(0)
    for layer in made.layers:
        weights = layer.get_weights()
        for index, weight in enumerate(weights):
            if weight.ndim == 1:  # norms and biases that do something
                weights[index] = weight + random.uniform(0, 0.1, weight.shape).astype(np.float32)
            elif not weight.any():  # offsets of deformable convolutions
                weights[index] = random.normal(0, 0.002, weight.shape).astype(np.float32)
        layer.set_weights(weights)
    path, detection = tmp_path / "network.onnx", config_lib.Detection(score_threshold=0.0, max_faces=40)
    onnx.write(made, path, detection)
    image = random.integers(0, 256, (1, 75, 97, 3)).astype(np.uint8)
    found = runtime.open_model(path, detection).run(image)
    outputs = made(image.astype(np.float32), training=False)
    wanted = {name: values.numpy() for name, values in decoding.decode(outputs, (75, 97), anchors, detection).items()}
    assert found["count"] == wanted["count"] == 40
    for name in ("boxes", "landmarks", "scores"):
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(found[name] / scale, wanted[name] / scale, atol=1e-4)


def test_the_light_form_is_of_the_shipped_weights(model, tmp_path, crowd):
    name = "mobilenet025"
    path, preset = tmp_path / "light.onnx", shipped.PRESETS[name]
    onnx.light(model, path, licence=preset.licence, source=name)
    made, held = (onnx_lib.load(file) for file in (path, shipped.light(name)))
    assert made.graph.node == held.graph.node and made.graph.input == held.graph.input
    for ours, theirs in zip(made.graph.initializer, held.graph.initializer):
        arrays = (onnx_lib.numpy_helper.to_array(tensor) for tensor in (ours, theirs))
        np.testing.assert_array_equal(*arrays, err_msg=ours.name)
    # Its limits come with each call, and do what those of an export do.
    for options in ({}, {"voting_iou": 0.5}, {"score_threshold": 0.02, "iou_threshold": 0.3, "max_faces": 30}):
        detection = config_lib.Detection(**options)
        onnx.write(model, path, detection)
        wanted = runtime.open_model(path, DETECTION)
        light = runtime.open_model(shipped.light(name), detection)
        for image in crowd:
            _check_same(light.run(image[None]), wanted.run(image[None]), 0.01)


def test_openvino_finds_the_same_faces(onnx_path, crowd):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    compiled = openvino.Core().compile_model(str(onnx_path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ours = runtime.open_model(onnx_path, DETECTION)
    for image in crowd:
        found = compiled(image[None])
        _check_same(
            {name: found[name] for name in ("boxes", "scores", "landmarks", "count")}, ours.run(image[None]), 0.5
        )


def test_the_export_is_what_the_check_reads(onnx_path):
    content, parts = onnx_check.read(onnx_path)
    assert onnx_file.check_seal(content) and onnx_check.image_size(parts) is None
    assert parts.operators == {("", node.op_type) for node in onnx_lib.load(onnx_path).graph.node}


_FRESH = """
import sys
from keras_retinaface import Detector
from keras_retinaface.media import image_file
faces = Detector("mobilenet025").detect(image_file.read(sys.argv[1]))
assert len(faces) == 1 and not {"tensorflow", "keras", "onnx"} & set(sys.modules)
"""


def test_a_fresh_process_takes_the_light_form(photos, monkeypatch):
    subprocess.run([sys.executable, "-c", _FRESH, str(photos / "astronaut.png")], check=True, timeout=120)
    monkeypatch.setattr(runtime, "_GPU_DEVICES", ("/dev/null",))
    assert isinstance(runtime.open_model("mobilenet025", DETECTION), runtime.KerasRuntime)
