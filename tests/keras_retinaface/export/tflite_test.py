"""Export as a whole: the same faces from Keras, SavedModel, TFLite and LiteRT without TensorFlow."""

import json
import os
import pickle
import subprocess
import sys
from concurrent import futures

import cv2
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.export import tflite
from keras_retinaface.formats import tflite_file
from keras_retinaface.inference import detector, runtime
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from tests import pictures

DETECTION = config_lib.Detection()


@pytest.fixture(scope="module")
def model():
    return model_lib.RetinaFace.from_preset("mobilenet025_public")


@pytest.fixture(scope="module")
def tflite_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "retinaface.tflite"
    tflite.tflite(model, path, DETECTION, image_size=(480, 640))
    return path


@pytest.fixture
def images(photos):
    return [image_file.read(photos / name) for name in ("astronaut.png", "solvay1927.jpg")]


@pytest.fixture
def crowd(images):
    """A photo without a face, one with 1, one with 29 and one with over 200."""
    astronaut, solvay = images
    many = cv2.resize(np.tile(solvay, (3, 3, 1)), (1280, 576), interpolation=cv2.INTER_AREA)
    return [np.ascontiguousarray(astronaut[256:]), astronaut, solvay, many]


def _check(report, at_least=20):
    assert report["faces"] == report["faces_exported"] > at_least and report["unmatched"] == 0
    assert report["box"] < 0.5 and report["landmark"] < 0.5 and report["score"] < 1e-3


def test_tflite_equals_keras(model, tflite_path, images):
    _check(tflite.parity(model, tflite_path, DETECTION, images))


def test_tflite_holds_only_built_in_ops(tflite_path):
    from ai_edge_litert import interpreter

    # Without a delegate: what is left must be ops of the runtime itself.
    bare = interpreter.Interpreter(
        model_path=str(tflite_path), experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    names = {op["op_name"] for op in bare._get_ops_details()}
    assert "CONV_2D" in names and "NON_MAX_SUPPRESSION_V4" in names
    assert not [name for name in names if name.startswith("Flex") or name == "CUSTOM"]


def test_litert_detects_without_importing_tensorflow(tflite_path, photos):
    code = (
        "import sys, json; from keras_retinaface.inference import detector\n"
        "from keras_retinaface.media import image_file\n"
        f"found = detector.Detector({str(tflite_path)!r}).detect(image_file.read({str(photos / 'astronaut.png')!r}))\n"
        "print(json.dumps([len(found), 'tensorflow' in sys.modules, 'keras' in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == [1, False, False]


def _numbers(faces):
    return [(face.box.tolist(), face.score, face.landmarks.tolist()) for face in faces]


@pytest.mark.parametrize("num_threads", [2, 16])
def test_threads_find_what_one_finds(tflite_path, images, num_threads, monkeypatch):
    monkeypatch.setattr(runtime, "_num_cores", lambda: 8)
    found_by = detector.Detector(str(tflite_path))
    serial = [_numbers(found_by.detect(image)) for image in images]
    assert len(serial[0]) == 1 and len(serial[1]) > 20
    with futures.ThreadPoolExecutor(num_threads) as threads:
        found = list(threads.map(found_by.detect, images * 12))
    assert [_numbers(faces) for faces in found] == serial * 12
    assert 1 < len(found_by._runtime._pool._made) <= 8


_FORKED = """
import os, sys
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file

found_by = detector.Detector(sys.argv[1], num_threads=2)
image = image_file.read(sys.argv[2])
assert len(found_by.detect(image)) == 1
child = os.fork()
if not child:
    try:
        print(len(found_by.detect(image)), flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0 and len(found_by.detect(image)) == 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("kind", ["tflite", "keras"])
def test_a_forked_child_detects_or_says_why_not(tflite_path, photos, kind):
    model = str(tflite_path) if kind == "tflite" else "mobilenet025"
    command = [sys.executable, "-W", "ignore", "-c", _FORKED, model, str(photos / "astronaut.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    expected = (
        "1" if kind == "tflite" else "TensorFlow ran in the parent before this process was forked, and would hang"
    )
    assert done.stdout.splitlines()[-1].startswith(expected)


def test_a_detector_pickles_as_its_arguments(tflite_path, model, images):
    options = dict(score_threshold=0.6, iou_threshold=0.3, max_faces=7, image_size=600, use_flip=True, min_face=20)
    found_by = detector.Detector(str(tflite_path), **options, tile=512, use_voting=True, num_threads=1)
    copy = pickle.loads(pickle.dumps(found_by))
    assert {**vars(copy), "_runtime": None} == {**vars(found_by), "_runtime": None}
    assert _numbers(copy.detect(images[1])) == _numbers(found_by.detect(images[1])) != []
    with pytest.raises(TypeError, match="pickles if its `model` is a name or a path: .* Received: RetinaFace"):
        pickle.dumps(detector.Detector(model))


@pytest.mark.slow
def test_saved_model_equals_keras(model, crowd, tmp_path):
    path = tmp_path / "saved_model"
    tflite.saved_model(model, path, DETECTION)
    # At its full size the third shows a shoe that passes for a face, beside its 29.
    for image, at_least, at_most in zip(crowd, (0, 1, 29, 200), (0, 1, 30, 300)):
        report = tflite.parity(model, path, DETECTION, [image])
        assert at_least <= report["faces"] <= at_most
        _check(report, at_least - 1)
    # Writing again replaces it, and leaves nothing beside it.
    tflite.saved_model(model, path, DETECTION)
    assert [p.name for p in tmp_path.iterdir()] == ["saved_model"]


@pytest.fixture(scope="module")
def serve_jpeg(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "saved_model"
    tflite.saved_model(model, path, DETECTION)
    loaded = tf.saved_model.load(str(path))
    yield loaded.signatures["serve_jpeg"]
    del loaded


@pytest.mark.slow
def test_encoded_images_of_any_mix_and_broken_ones_are_one_batch(serve_jpeg, photos):
    names = ("astronaut.png", "solvay1927.jpg", "tfjs_three_people.jpg")
    files = [(photos / name).read_bytes() for name in names]
    # No image at all, nothing, the header of one, one that ends halfway.
    broken = [b"no image", b"", files[1][:20], files[2][: len(files[2]) // 2]]
    found = serve_jpeg(image_bytes=tf.constant([files[0], broken[0], files[1], *broken[1:], files[2]]))
    is_broken = [False, True, False, True, True, True, False]
    np.testing.assert_array_equal(found["is_broken"], is_broken)
    np.testing.assert_array_equal(found["count"], [1, 0, 30, 0, 0, 0, 3])  # 29 faces and a shoe
    for name in ("boxes", "scores", "landmarks"):
        assert not np.any(found[name].numpy()[is_broken])
    # Padded to the largest of the batch, an image's faces stay where they are.
    alone = serve_jpeg(image_bytes=tf.constant([files[0]]))
    np.testing.assert_allclose(found["boxes"][0], alone["boxes"][0], atol=0.1)
    only_broken = serve_jpeg(image_bytes=tf.constant(broken[:1]))
    assert only_broken["count"] == 0 and bool(only_broken["is_broken"])


@pytest.mark.slow
def test_photos_of_every_orientation_have_the_faces_that_detection_finds(model, serve_jpeg, photos):
    astronaut = image_file.read(photos / "astronaut.png")[:300, 60:400]
    files = [pictures.turned(astronaut, number, quality=95) for number in pictures.ORIENTATIONS]
    files += [pictures.turned(astronaut, number, "PNG", ">") for number in pictures.ORIENTATIONS]
    found = serve_jpeg(image_bytes=tf.constant(files))
    reference = detector.Detector(model)
    for row, content in enumerate(files):
        (face,) = reference.detect(image_file.decode(content, "photo"))
        assert found["count"][row] == 1
        np.testing.assert_allclose(found["boxes"][row, 0], face.box, atol=0.05)
        np.testing.assert_allclose(found["landmarks"][row, 0], face.landmarks, atol=0.05)
        np.testing.assert_allclose(found["scores"][row, 0], face.score, atol=1e-4)


@pytest.mark.slow
def test_several_sizes_share_their_weights(model, crowd, tflite_path, tmp_path):
    path = tmp_path / "sizes.tflite"
    tflite.tflite(model, path, DETECTION, image_size=[(480, 640), (720, 1280), (192, 320)])
    assert path.stat().st_size < 1.5 * tflite_path.stat().st_size
    said = tflite_file.read_metadata(path)
    assert said["signatures"] == {
        "vga": {"height": 480, "width": 640},
        "hd": {"height": 720, "width": 1280},
        "s320x192": {"height": 192, "width": 320},
    }
    assert (said["score_threshold"], said["labels"], said["quantization"]) == (0.5, ["face"], "none")
    _check(tflite.parity(model, path, DETECTION, crowd), 229)
    # The detector takes the size that holds the picture: at 640 x 480 the crowd's faces are too small to find.
    found_by = detector.Detector(str(path))
    serial = [_numbers(found_by.detect(image)) for image in crowd]
    assert len(serial[3]) > 200
    with futures.ThreadPoolExecutor(4) as threads:
        assert [_numbers(faces) for faces in threads.map(found_by.detect, crowd * 3)] == serial * 3
    assert len(detector.Detector(str(tflite_path)).detect(crowd[3])) < 200


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "score", "size"), [("float16", 0.01, 0.6), ("int8", 0.2, 0.6)])
def test_quantised_models_find_the_same_faces(model, images, tflite_path, tmp_path, quantize, score, size):
    path = tmp_path / "small.tflite"
    tflite.tflite(model, path, DETECTION, image_size=(480, 640), quantize=quantize, calibration_images=images)
    report = tflite.parity(model, path, DETECTION, images)
    assert report["faces"] > 20 and report["unmatched"] <= 1 and report["score"] < score
    assert report["box_mean"] < 2 and report["landmark_mean"] < 2
    assert path.stat().st_size < size * tflite_path.stat().st_size
    if quantize == "int8":
        _check_is_int8_up_to_the_heads(path)


def _check_is_int8_up_to_the_heads(path):
    from ai_edge_litert import interpreter

    bare = interpreter.Interpreter(
        model_path=str(path), experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    tensors = {tensor["index"]: tensor for tensor in bare.get_tensor_details()}
    operations = bare._get_ops_details()
    convolutions = [op for op in operations if "CONV_2D" in op["op_name"]]
    # All but the first 5, on large maps of few channels, and the 3 that give scores.
    convolutions = [op for op in convolutions if tensors[op["inputs"][0]]["dtype"] is np.int8]
    assert len(convolutions) == 48
    # One scale a channel, and one way into int8 (behind the first convolutions) and out (three heads of three levels).
    # One more pair would round the scores before they are sorted.
    scales = [len(tensors[op["inputs"][1]]["quantization_parameters"]["scales"]) for op in convolutions]
    assert min(scales) > 1
    names = [op["op_name"] for op in operations]
    assert (names.count("QUANTIZE"), names.count("DEQUANTIZE")) == (1, 9)


@pytest.mark.slow
def test_layers_stay_in_float_on_request(model, images, tmp_path):
    from ai_edge_litert import interpreter

    path = tmp_path / "mixed.tflite"
    arguments = {"image_size": (96, 128), "quantize": "int8", "calibration_images": images}
    tflite.tflite(model, path, DETECTION, float_layers=["box_P3"], **arguments)
    bare = interpreter.Interpreter(
        model_path=str(path), experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    tensors = {tensor["index"]: tensor for tensor in bare.get_tensor_details()}
    floats = [
        tensors[op["outputs"][0]]["shape"].tolist()
        for op in bare._get_ops_details()
        if op["op_name"] == "CONV_2D" and tensors[op["inputs"][0]]["dtype"] is np.float32
    ]
    assert floats == [[1, 12, 16, 8]]
    with pytest.raises(ValueError, match=r"`float_layers` must match layers of the network. Received: \['box_P9'\]"):
        tflite.tflite(model, path, DETECTION, float_layers=["box_P9"], **arguments)
    with pytest.raises(ValueError, match=r"must match layers of the network. Received: \['bax_\*'\], which match none"):
        tflite.tflite(model, path, DETECTION, float_layers=["box_P3", "bax_*"], **arguments)


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_an_export_votes(model, crowd, tmp_path, quantize):
    path = tmp_path / "voting.tflite"
    voting = config_lib.Detection(voting_iou=0.5)
    images = crowd[:3]
    tflite.tflite(model, path, voting, image_size=(480, 640), quantize=quantize, calibration_images=images)
    report = tflite.parity(model, path, voting, images)
    assert tflite_file.read_metadata(path)["voting_iou"] == 0.5
    if quantize == "none":
        _check(report)
        # The boxes are others than those of the best candidates.
        assert tflite.parity(model, path, DETECTION, images)["box"] > 0.5
    else:
        assert report["faces"] > 20 and report["unmatched"] <= 1 and report["box_mean"] < 2
        # No further way in and out, as without voting: a box that is rounded before it votes lies on a grid.
        _check_is_int8_up_to_the_heads(path)
    with pytest.raises(ValueError, match="`voting_iou` is fixed at export: give it to export_main.py. Received: "):
        detector.Detector(str(path), voting_iou=0.5)


def test_thresholds_of_the_export_hold(model, tmp_path, images):
    path = tmp_path / "strict.tflite"
    tflite.tflite(model, path, config_lib.Detection(max_faces=5), image_size=(480, 640))
    faces = detector.Detector(str(path), num_threads=2).detect(images[1])
    assert len(faces) == 5
    assert all(0 <= face.box[0] < images[1].shape[1] for face in faces)


def test_wrong_arguments_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="`quantize` must be one of .* Received: quantize='int4'"):
        tflite.tflite(model, tmp_path / "a", DETECTION, image_size=(64, 64), quantize="int4")
    with pytest.raises(ValueError, match="`calibration_images` must name at least one image"):
        tflite.tflite(model, tmp_path / "a", DETECTION, image_size=(64, 64), quantize="int8")
    assert not list(tmp_path.iterdir())
