"""The same faces from Keras, from a `.tflite` file, and from LiteRT without TensorFlow."""

import json
import pickle
import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.export import parity, tflite
from keras_retinaface.formats import tflite_file
from keras_retinaface.inference import detector, runtime

DETECTION = config_lib.Detection()


def test_tflite_equals_keras(model, tflite_path, images, check_parity):
    check_parity(parity.measure(model, tflite_path, DETECTION, images))


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
    monkeypatch.setattr(runtime, "num_cores", lambda: 8)
    found_by = detector.Detector(str(tflite_path))
    serial = [_numbers(found_by.detect(image)) for image in images]
    assert len(serial[0]) == 1 and len(serial[1]) > 20
    with futures.ThreadPoolExecutor(num_threads) as threads:
        found = list(threads.map(found_by.detect, images * 12))
    assert [_numbers(faces) for faces in found] == serial * 12
    assert 1 < len(found_by._runtime._pool._made) <= 8


def test_a_detector_pickles_as_its_arguments(tflite_path, model, images):
    options = dict(score_threshold=0.6, iou_threshold=0.3, max_faces=7, image_size=600, use_flip=True, min_face=20)
    found_by = detector.Detector(str(tflite_path), **options, tile=512, use_voting=True, num_threads=1)
    copy = pickle.loads(pickle.dumps(found_by))
    assert {**vars(copy), "_runtime": None} == {**vars(found_by), "_runtime": None}
    assert _numbers(copy.detect(images[1])) == _numbers(found_by.detect(images[1])) != []
    with pytest.raises(TypeError, match="pickles if its `model` is a name or a path: .* Received: RetinaFace"):
        pickle.dumps(detector.Detector(model))


@pytest.mark.long
def test_several_sizes_share_their_weights(model, crowd, tflite_path, tmp_path, check_parity):
    path = tmp_path / "sizes.tflite"
    tflite.write(model, path, DETECTION, image_size=[(480, 640), (720, 1280), (192, 320)])
    assert path.stat().st_size < 1.5 * tflite_path.stat().st_size
    said = tflite_file.read_metadata(path)
    assert said["signatures"] == {
        "vga": {"height": 480, "width": 640},
        "hd": {"height": 720, "width": 1280},
        "s320x192": {"height": 192, "width": 320},
    }
    assert (said["score_threshold"], said["labels"], said["quantization"]) == (0.5, ["face"], "none")
    check_parity(parity.measure(model, path, DETECTION, crowd), 229)
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
    tflite.write(model, path, DETECTION, image_size=(480, 640), quantize=quantize, calibration_images=images)
    report = parity.measure(model, path, DETECTION, images)
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


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_an_export_votes(model, crowd, tmp_path, quantize, check_parity):
    path = tmp_path / "voting.tflite"
    voting = config_lib.Detection(voting_iou=0.5)
    images = crowd[:3]
    tflite.write(model, path, voting, image_size=(480, 640), quantize=quantize, calibration_images=images)
    report = parity.measure(model, path, voting, images)
    assert tflite_file.read_metadata(path)["voting_iou"] == 0.5
    if quantize == "none":
        check_parity(report)
        # The boxes are others than those of the best candidates.
        assert parity.measure(model, path, DETECTION, images)["box"] > 0.5
    else:
        assert report["faces"] > 20 and report["unmatched"] <= 1 and report["box_mean"] < 2
        # No further way in and out, as without voting: a box that is rounded before it votes lies on a grid.
        _check_is_int8_up_to_the_heads(path)
    with pytest.raises(ValueError, match="`voting_iou` is fixed at export: give it to export_main.py. Received: "):
        detector.Detector(str(path), voting_iou=0.5)


def test_thresholds_of_the_export_hold(model, tmp_path, images):
    path = tmp_path / "strict.tflite"
    tflite.write(model, path, config_lib.Detection(max_faces=5), image_size=(480, 640))
    faces = detector.Detector(str(path), num_threads=2).detect(images[1])
    assert len(faces) == 5
    assert all(0 <= face.box[0] < images[1].shape[1] for face in faces)


def test_wrong_arguments_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="`quantize` must be one of .* Received: quantize='int4'"):
        tflite.write(model, tmp_path / "a", DETECTION, image_size=(64, 64), quantize="int4")
    with pytest.raises(ValueError, match="`calibration_images` must name at least one image"):
        tflite.write(model, tmp_path / "a", DETECTION, image_size=(64, 64), quantize="int8")
    assert not list(tmp_path.iterdir())
