"""`.onnx` files in a detector: threads, pickles, and files that are not ours. No TensorFlow."""

import pickle
from concurrent import futures

import cv2
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.formats import onnx_file
from keras_retinaface.inference import detector, onnx_check, onnx_runtime
from keras_retinaface.media import image_file
from keras_retinaface.weights import shipped

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LIGHT = shipped.light("mobilenet025")


@pytest.fixture
def images(photos):
    astronaut = image_file.read(photos / "astronaut.png")
    group = image_file.read(photos / "solvay1927.jpg")
    return [astronaut, cv2.resize(group, (640, 411), interpolation=cv2.INTER_AREA)]


def _numbers(faces):
    return [[*face.box.tolist(), face.score, *face.landmarks.ravel().tolist()] for face in faces]


@pytest.mark.parametrize("num_threads", [1, 2, None])
def test_threads_find_what_one_finds(images, num_threads):
    found_by = detector.Detector(LIGHT, num_threads=num_threads)
    serial = [_numbers(found_by.detect(image)) for image in images]
    assert len(serial[0]) == 1 and len(serial[1]) > 20
    with futures.ThreadPoolExecutor(8) as threads:
        assert [_numbers(faces) for faces in threads.map(found_by.detect, images * 6)] == serial * 6
    copy = pickle.loads(pickle.dumps(found_by))
    assert _numbers(copy.detect(images[1])) == serial[1]


def test_views_of_every_kind(images):
    found_by = detector.Detector(LIGHT, use_flip=True, use_voting=True, scales=(300, 700))
    assert len(found_by.detect(images[0])) == 1
    assert len(detector.Detector(LIGHT, tile=400, image_size=900).detect(images[1])) > 20
    batch = detector.Detector(LIGHT).detect_batch([*images, images[0]])
    assert [len(faces) for faces in batch] == [1, len(batch[1]), 1]


def _refused(path, expected):
    with pytest.raises(ValueError, match=expected) as error:
        onnx_runtime.OnnxRuntime(path, 1)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 700


def test_damage_is_refused_before_anything_is_run(tmp_path):
    content = LIGHT.read_bytes()
    path = tmp_path / "damaged.onnx"
    random = np.random.default_rng(0)
    places = [*random.integers(0, len(content), 40), 0, 1, len(content) - 1, len(content) - 70, len(content) - 80]
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        _refused(path, "not a RetinaFace .onnx file: ")
    for length in (0, 1, 7, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        _refused(path, "not a RetinaFace .onnx file: ")
    path.write_bytes(b"\x00" * 100)
    _refused(path, "not a RetinaFace .onnx file: ")
    _refused(tmp_path / "none.onnx", "no such file")


def _changed(change):
    model = onnx.load(LIGHT)
    del model.metadata_props[:]
    change(model)
    return model


def _external(model):
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 1000)
    weight.data_location = onnx.TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    weight.ClearField("raw_data")


def _external_inside(model):
    node = next(node for node in model.graph.node if node.op_type == "If")
    branch = next(attribute.g for attribute in node.attribute if attribute.name == "then_branch")
    branch.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def _own_operator(model):
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))


def _function(model):
    model.functions.append(onnx.helper.make_function("com.example", "f", [], [], [], model.opset_import))


def _other_input(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _no_landmarks(model):
    model.graph.output.remove(next(value for value in model.graph.output if value.name == "landmarks"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_external, "weights lie in other files"),
        (_external_inside, "weights lie in other files"),
        (_own_operator, "operators that are not ONNX's own: 'com.example"),
        (_function, "operators that are not ONNX's own: 'functions'"),
        (_other_input, r"expected the input `image` uint8 \[batch, height, width, 3\]. Received: `image` float32"),
        (_no_landmarks, "expected the output `boxes` float32 .* Received: `boxes` float32"),
    ],
)
def test_what_is_not_an_export_is_named(tmp_path, change, expected):
    path = tmp_path / "other.onnx"
    path.write_bytes(_changed(change).SerializeToString())
    _refused(path, expected)


def test_what_was_saved_again_is_refused_unless_it_gives_up_its_name(tmp_path):
    path = tmp_path / "again.onnx"
    model = onnx.load(LIGHT)
    model.doc_string = "made smaller"
    path.write_bytes(model.SerializeToString())
    _refused(path, "damaged")
    path.write_bytes(_changed(lambda model: None).SerializeToString())
    content, parts = onnx_check.read(path)
    assert not onnx_file.check_seal(content) and set(parts.defaults) == set(onnx_check.OPTIONS)
    assert len(onnx_runtime.OnnxRuntime(path, 1).run(np.zeros((1, 64, 64, 3), np.uint8))["boxes"][0]) == 750


def test_limits_come_with_each_call(images):
    limits = config_lib.Detection(score_threshold=0.02, iou_threshold=0.3, max_faces=7)
    found = onnx_runtime.OnnxRuntime(LIGHT, 1, limits).run(images[1][None])
    assert found["boxes"].shape == (1, 7, 4) and found["count"] == [7]
    assert len(onnx_runtime.OnnxRuntime(LIGHT, 1).run(images[1][None])["boxes"][0]) == 750


def test_a_light_form_given_by_its_path_takes_the_threshold_that_is_asked_for(images):
    usual = _numbers(detector.Detector(LIGHT).detect(images[1]))
    low = _numbers(detector.Detector(LIGHT, score_threshold=0.02).detect(images[1]))
    assert low[: len(usual)] == usual and usual[-1][4] >= 0.5
    assert min(face[4] for face in low) < 0.1


@pytest.mark.parametrize("sides", [("height", "width"), (411, 640)])
def test_a_file_of_one_batch_finds_what_one_of_any_finds(tmp_path, images, sides):
    def fix(model):
        for value in (*(v for v in model.graph.input if v.name == "image"), *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 3
        for side, wanted in zip(model.graph.input[0].type.tensor_type.shape.dim[1:3], sides):
            if isinstance(wanted, int):
                side.dim_value = wanted

    path = tmp_path / "three.onnx"
    path.write_bytes(_changed(fix).SerializeToString())
    image_size = "original" if sides[0] == "height" else 640
    three = detector.Detector(path, num_threads=1)
    any_batch = detector.Detector(LIGHT, num_threads=1, image_size=image_size)
    wanted = [_numbers(any_batch.detect(images[1])), _numbers(any_batch.detect(images[1][:, ::-1].copy()))]
    pictures = [images[1], images[1][:, ::-1].copy()] * 2
    with futures.ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(three.detect, pictures))
    for found, expected in zip(alone, wanted * 2):
        np.testing.assert_allclose(_numbers(found), expected, atol=0.01)
    for found, expected in zip(three.detect_batch(pictures), wanted * 2):  # four: a whole batch and a part of one
        np.testing.assert_allclose(_numbers(found), expected, atol=0.01)
