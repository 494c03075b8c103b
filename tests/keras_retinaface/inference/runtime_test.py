import pathlib
import sys

import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.inference import onnx_runtime, runtime
from keras_retinaface.weights import shipped
from tests.fuzz import tiny_model

DETECTION = config_lib.Detection()


def test_a_damaged_keras_file_is_named(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="model.keras: not a readable .keras file"):
        runtime.load_keras(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing", "`model` must be a preset .*; presets with weights: .*Received: 'nothing'"),
        ("paper_resnet50", "Received: 'paper_resnet50'"),  # a preset, but none with weights
        ("a.tflite", "a.tflite: no such file"),
        ("a.onnx", "a.onnx: no such file"),
        ("a.keras", "Received: 'a.keras'"),
        (pathlib.Path("empty"), "Received: 'empty'"),
    ],
)
def test_what_opens_nothing_is_told(model, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        runtime.open_model(model, DETECTION)


@pytest.mark.parametrize("name", ["a.tflite", "a.onnx"])
def test_what_an_export_has_fixed_is_refused_before_it_is_opened(name):
    with pytest.raises(ValueError, match=f"`mesh` needs a Keras model, .* Received: '{name}'"):
        runtime.open_model(name, DETECTION, has_dense=True)


def test_voting_that_an_export_has_fixed_is_refused_before_it_is_opened():
    with pytest.raises(ValueError, match="`voting_iou` is fixed at export: .* Received: 'a.tflite'"):
        runtime.open_model("a.tflite", config_lib.Detection(voting_iou=0.5))


def test_litert_gives_what_the_file_holds(tmp_path):
    (tmp_path / "a.tflite").write_bytes(tiny_model.tflite())
    opened = runtime.open_model(tmp_path / "a.tflite", DETECTION)
    assert opened.image_sizes == ((32, 48),) and opened.max_batch == 1
    found = opened.run(np.zeros((1, 32, 48, 3), np.uint8))
    assert set(found) == {"boxes", "scores", "landmarks", "count"}
    np.testing.assert_array_equal(found["landmarks"].ravel(), np.arange(20))


def test_a_threshold_that_an_export_cannot_go_under_is_told(light_model, tmp_path, caplog):
    from keras_retinaface.export import onnx
    from keras_retinaface.network import model as model_lib

    network = config_lib.Config().replace(pyramid_channels=8)
    onnx.write(model_lib.RetinaFace(network), tmp_path / "a.onnx", config_lib.Detection(score_threshold=0.4))
    for path, of_export in ((light_model, 0.5), (tmp_path / "a.onnx", 0.4)):
        for threshold in (of_export, 0.6):
            runtime.open_model(path, config_lib.Detection(score_threshold=threshold))
        assert not caplog.records
        runtime.open_model(path, config_lib.Detection(score_threshold=0.02))
        assert f"{path} gives no scores under {of_export}, its threshold at export" in caplog.text
        caplog.clear()
    # The default may just not have been given.
    onnx.write(model_lib.RetinaFace(network), tmp_path / "b.onnx", config_lib.Detection(score_threshold=0.7))
    runtime.open_model(tmp_path / "b.onnx", DETECTION)
    assert not caplog.records
    # A light form takes what it is asked for.
    runtime.open_model(shipped.light("mobilenet025"), config_lib.Detection(score_threshold=0.02))
    assert not caplog.records


def test_a_preset_is_its_light_form_unless_tensorflow_is_loaded_or_there_is_a_gpu(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtime, "_GPU_DEVICES", ())
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert runtime._prefers_light()
    assert isinstance(runtime.open_model("mobilenet025", DETECTION), onnx_runtime.OnnxRuntime)
    monkeypatch.setattr(runtime, "_GPU_DEVICES", ("/dev/null",))
    assert not runtime._prefers_light()
    monkeypatch.setattr(runtime, "_GPU_DEVICES", ())
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    assert not runtime._prefers_light()
    assert shipped.light("mobilenet025") and not shipped.light("mobilenet025_public")


@pytest.mark.parametrize(
    ("limit", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 3), ("200000 100000", 2), ("", 3)]
)
def test_cores_are_those_of_the_container(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(runtime, "_CGROUP_LIMIT", str(tmp_path / "cpu.max"))
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert runtime.num_cores() == expected
    monkeypatch.setattr(runtime, "_CGROUP_LIMIT", str(tmp_path / "none"))
    assert runtime.num_cores() == 3
