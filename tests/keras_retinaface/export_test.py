"""Export as a whole: the same faces from Keras, SavedModel, TFLite and LiteRT without TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface import detector, export, image_file, presets

DETECTION = config_lib.Detection()


@pytest.fixture(scope="module")
def model():
    return presets.load("mobilenet025_public")


@pytest.fixture(scope="module")
def tflite_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "retinaface.tflite"
    export.tflite(model, path, DETECTION, image_size=(480, 640))
    return path


@pytest.fixture
def images(photos):
    return [image_file.read(photos / name) for name in ("astronaut.png", "solvay1927.jpg")]


def _check(report):
    assert report["faces"] == report["faces_exported"] > 20 and report["unmatched"] == 0
    assert report["box"] < 0.5 and report["landmark"] < 0.5 and report["score"] < 1e-3


def test_tflite_equals_keras(model, tflite_path, images):
    _check(export.parity(model, tflite_path, DETECTION, images))


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
        "import sys, json; from keras_retinaface import detector, image_file\n"
        f"found = detector.Detector({str(tflite_path)!r}).detect(image_file.read({str(photos / 'astronaut.png')!r}))\n"
        "print(json.dumps([len(found), 'tensorflow' in sys.modules, 'keras' in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == [1, False, False]


@pytest.mark.slow
def test_saved_model_equals_keras(model, images, photos, tmp_path):
    path = tmp_path / "saved_model"
    export.saved_model(model, path, DETECTION)
    _check(export.parity(model, path, DETECTION, images))
    loaded = tf.saved_model.load(str(path))
    file_bytes = (photos / "tfjs_three_people.jpg").read_bytes()
    from_bytes = loaded.signatures["serve_jpeg"](image_bytes=tf.constant([file_bytes, file_bytes]))
    np.testing.assert_array_equal(from_bytes["count"], [3, 3])
    # Writing again replaces it, and leaves nothing beside it.
    export.saved_model(model, path, DETECTION)
    assert [p.name for p in tmp_path.iterdir()] == ["saved_model"]


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "score"), [("float16", 0.01), ("int8", 0.2)])
def test_quantised_models_find_the_same_faces(model, images, tmp_path, quantize, score):
    path = tmp_path / "small.tflite"
    export.tflite(model, path, DETECTION, image_size=(480, 640), quantize=quantize, calibration_images=images)
    report = export.parity(model, path, DETECTION, images)
    assert report["faces"] > 20 and report["unmatched"] <= 1 and report["score"] < score
    assert path.stat().st_size < 1_200_000


def test_thresholds_of_the_export_hold(model, tmp_path, images):
    path = tmp_path / "strict.tflite"
    export.tflite(model, path, config_lib.Detection(max_faces=5), image_size=(480, 640))
    faces = detector.Detector(str(path), num_threads=2).detect(images[1])
    assert len(faces) == 5
    assert all(0 <= face.box[0] < images[1].shape[1] for face in faces)


def test_wrong_arguments_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="`quantize` must be one of .* Received: quantize='int4'"):
        export.tflite(model, tmp_path / "a", DETECTION, image_size=(64, 64), quantize="int4")
    with pytest.raises(ValueError, match="`calibration_images` must name at least one image"):
        export.tflite(model, tmp_path / "a", DETECTION, image_size=(64, 64), quantize="int8")
    assert not list(tmp_path.iterdir())
