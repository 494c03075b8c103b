"""peteryuX: what their network gives, and what TensorFlow saves of one; see `testdata/make_imports_peteryux.py`."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from benchmarks import imports as comparison
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays, imports, imports_peteryux

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata"
_BOUND = 1e-4  # over the largest output


def _script(name):
    spec = importlib.util.spec_from_file_location(name, TESTDATA / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    make_imports = _script("make_imports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "make_imports", make_imports)
        yield _script("make_imports_peteryux")


def _golden(name):
    with np.load(TESTDATA / "imports_peteryux.npz") as stored:
        return {key.split("/")[1]: stored[key] for key in stored if key.startswith(f"{name}/")}


def _state(script, name):
    golden = _golden(name)
    shapes = [tuple(map(int, shape.split(","))) for shape in golden["shapes"]]
    return {path: script.draw(path, shape) for path, shape in zip(golden["names"].tolist(), shapes)}


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("peteryuX_mobilenet_v2", "mobilenet_v2_160"),
        pytest.param("peteryuX_resnet50", "resnet50", marks=pytest.mark.slow),
    ],
)
def test_raw_outputs_are_those_of_the_original_network(script, name, backbone):
    config, values = imports_peteryux.translate(_state(script, name), name)
    assert (config.network.backbone, config.network.backbone_layout) == (backbone, "keras")
    model = model_lib.RetinaFace(config)
    arrays.assign(model, values, name)
    golden = _golden(name)
    expected = {key: golden[key] for key in ("scores", "boxes", "landmarks")}
    assert np.ptp(expected["scores"]) > 0.05
    image = script.pad(script.make_imports.draw_image()[0])
    found = imports.Checkpoint("peteryuX", config, values)
    assert comparison.difference(model, found, image, expected) < _BOUND


class _Object(tf.Module):
    pass


def _object(values, name=""):
    made = _Object()
    for key, value in values.items():
        part = _object(value, f"{name}{key}/") if isinstance(value, dict) else tf.Variable(value, name=f"{name}{key}")
        setattr(made, key, part)
    return made


def _tree(state):
    """Returns a network's arrays as the original's objects lie in one another, up to the first of each kind."""
    layers = {"layer_with_weights-0": {"layer_with_weights-0": {"kernel": state["backbone/Conv1/kernel"]}}}
    picked = ("FPN/output1", "SSH_0/conv_3x3", "Head_0", "Head_3")
    for number, prefix in enumerate(picked, start=1):
        layer = layers[f"layer_with_weights-{number}"] = {}
        for path, array in state.items():
            if path.startswith(f"{prefix}/"):
                *folders, leaf = path.split("/")[1:]
                inner = layer
                for folder in folders:
                    inner = inner.setdefault(folder, {})
                inner[leaf] = array
    return layers


@pytest.fixture(scope="module")
def saved(script, tmp_path_factory):
    """A checkpoint, a SavedModel, and the arrays of both by path."""
    folder = tmp_path_factory.mktemp("peteryux")
    state = _state(script, "peteryuX_mobilenet_v2")
    model = _object(_tree(state))
    first = getattr(getattr(model, "layer_with_weights-0"), "layer_with_weights-0")
    first.kernel = tf.Variable(state["backbone/Conv1/kernel"], name="Conv1/kernel")
    prefix = tf.train.Checkpoint(step=tf.Variable(0), model=model).save(str(folder / "ckpt"))
    tf.saved_model.save(model, str(folder / "saved_model"))
    names = ("backbone/Conv1/", "FPN/output1/", "SSH_0/conv_3x3/", "Head_0/", "Head_3/")
    wanted = {path: array for path, array in state.items() if path.startswith(names)}
    wanted = {path.replace("Head_3", "Head_1"): array for path, array in wanted.items()}
    return folder, pathlib.Path(f"{prefix}.index"), wanted


def test_checkpoints_and_saved_models_are_read_by_path(saved):
    folder, index, wanted = saved
    for path in (index, index.parent, folder / "saved_model"):
        found = imports_peteryux.read(path)
        assert set(found) == set(wanted)
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert imports.read(path).project == "peteryuX"
    values = imports.read(index).values
    assert {"mobile_0/kernel", "lateral_P3_bn/gamma", "context_P3_3x3/kernel", "class_P3/bias"} <= set(values)
    with pytest.raises(ValueError, match="has the layout of peteryuX. Received: project='yakhyo'"):
        imports.read(index, "yakhyo")


def test_what_is_none_is_one_line(saved, tmp_path):
    def refused(path, expected):
        with pytest.raises((ValueError, FileNotFoundError), match=expected) as error:
            imports.read(path)
        assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)

    refused(tmp_path, "neither a SavedModel nor a folder of checkpoints")
    refused(tmp_path / "ckpt-3.index", "no such file")
    _, index, _ = saved
    (tmp_path / "ckpt-1.index").write_bytes(index.read_bytes()[:-20])
    refused(tmp_path / "ckpt-1.index", "not a readable checkpoint of TensorFlow")
    other = tf.train.Checkpoint(step=tf.Variable(0)).save(str(tmp_path / "other"))
    refused(pathlib.Path(f"{other}.index"), "holds no RetinaFace of peteryuX")


def test_parts_that_hold_themselves_come_to_an_end():
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.nodes.add().children.add(node_id=1, local_name="layer_with_weights-0")
    whole = graph.nodes.add()
    for index in range(1000):
        whole.children.add(node_id=1, local_name=f"layer_with_weights-{index}")
    with pytest.raises(LookupError, match="its layers have more than 20000 parts"):
        imports_peteryux._keys(graph)
