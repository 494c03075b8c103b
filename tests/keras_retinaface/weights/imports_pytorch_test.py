"""Public checkpoints give what their own packages' networks give; see `testdata/make_imports.py`."""

import importlib.util
import pathlib

import numpy as np
import pytest

from benchmarks import imports as comparison
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays, imports

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata"

_spec = importlib.util.spec_from_file_location("make_imports", TESTDATA / "make_imports.py")
make_imports = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_imports)

_BOUND = 1e-4  # over the largest output


def _state(name):
    with np.load(TESTDATA / "imports.npz") as golden:
        names, shapes = golden[f"{name}/names"], golden[f"{name}/shapes"]
    shapes = [tuple(map(int, shape.split(","))) for shape in shapes]
    return {key: make_imports.draw(key, shape) for key, shape in zip(names.tolist(), shapes)}


def _read(tmp_path, name, prefix="", **changes):
    path = tmp_path / f"{name}.npz"
    state = {**_state(name), **changes}
    np.savez(path, **{f"{prefix}{key}": array for key, array in state.items() if array is not None})
    return imports.read(path, name.split("_")[0])


def _difference(model, found, name):
    arrays.assign(model, found.values, name)
    with np.load(TESTDATA / "imports.npz") as golden:
        expected = {key: golden[f"{name}/{key}"] for key in ("scores", "boxes", "landmarks")}
    assert not np.ptp(expected["scores"]) < 0.05  # neither all faces nor all background
    return comparison.difference(model, found, make_imports.draw_image()[0], expected)


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        pytest.param("biubug6_mobilenet025", "mobilenet025", marks=pytest.mark.slow),
        ("yakhyo_mobilenet050", "mobilenet050"),
        ("yakhyo_resnet18", "resnet18"),
        ("serengil_resnet50", "resnet50_v2"),
        pytest.param("yakhyo_mobilenet_v2", "mobilenet_v2_1280", marks=pytest.mark.slow),
        pytest.param("yakhyo_mobilenet025", "mobilenet025", marks=pytest.mark.slow),
        pytest.param("yakhyo_mobilenet100", "mobilenet100", marks=pytest.mark.slow),
        pytest.param("yakhyo_resnet34", "resnet34", marks=pytest.mark.slow),
        pytest.param("yakhyo_resnet50", "resnet50", marks=pytest.mark.slow),
    ],
)
def test_raw_outputs_are_those_of_the_original_network(tmp_path, name, backbone):
    found = _read(tmp_path, name)
    assert found.project == name.split("_")[0] and found.config.network.backbone == backbone
    assert _difference(model_lib.RetinaFace(found.config), found, name) < _BOUND


def test_one_network_of_two_projects_sees_images_as_each_does(tmp_path):
    theirs = {name: _read(tmp_path, name, prefix="module.") for name in ("biubug6_resnet50", "ternaus_resnet50")}
    for name, found in theirs.items():
        assert found.config.network.backbone == "resnet50"
        assert _difference(model_lib.RetinaFace(found.config), found, name) < _BOUND
    assert theirs["biubug6_resnet50"].config.network.image_mean == (123.0, 117.0, 104.0)


def test_the_first_norm_tells_two_projects_of_the_same_names_apart(tmp_path):
    path = tmp_path / "state.npz"
    state = {
        "body.conv1.weight": np.full((64, 3, 7, 7), 0.1, np.float32),
        "fpn.output1.0.weight": np.zeros((256, 8, 1, 1)),
    }
    for variance, project in ((2.0, "ternaus"), (5000.0, "biubug6")):
        state["body.bn1.running_var"] = np.full(64, variance, np.float32)
        assert imports.imports_pytorch.project_of(state) == project
    np.savez(path, **state)
    with pytest.raises(ValueError, match="state.npz: has the layout of biubug6. Received: project='yakhyo'"):
        imports.read(path, "yakhyo")


def test_what_does_not_fit_is_named(tmp_path):
    name = "yakhyo_resnet18"
    found = _read(tmp_path, name, **{"fx.layer2.0.bn1.bias": None})
    model = model_lib.RetinaFace(found.config)
    with pytest.raises(ValueError, match=r"1 weights missing \(first: \['C3_0_conv1_bn/beta'\]"):
        arrays.assign(model, found.values, "x")
    found = _read(tmp_path, name, **{"fx.layer2.0.bn1.bias": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"C3_0_conv1_bn/beta must have shape \(128,\). Received: \(3,\)"):
        arrays.assign(model, found.values, "x")
    for key in ("fx.layer9.0.conv1.weight", "fx.fc.weight", "loss.scale"):
        with pytest.raises(ValueError, match=f"{key} is not a weight of a RetinaFace of yakhyo"):
            _read(tmp_path, name, **{key: np.zeros((1, 1, 1, 1), np.float32)})
    with pytest.raises(ValueError, match="its backbone is none that is known"):
        _read(tmp_path, name, **{"fx.layer3.5.conv1.weight": np.zeros((1, 1, 1, 1), np.float32)})
    with pytest.raises(ValueError, match="needs backbone='resnet18'. Received: backbone='mobilenet025'"):
        imports.load(model_lib.RetinaFace(), _whole(tmp_path, name))


def _whole(tmp_path, name):
    path = tmp_path / "whole.npz"
    np.savez(path, **_state(name))
    return path
