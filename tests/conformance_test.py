"""What every layer of the library, and the network of every preset, must do alike."""

import ast

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.inference import model_file
from keras_retinaface.layers import deform_conv, mesh_tower, preprocessing, pyramid, resnet
from keras_retinaface.mesh import chebyshev
from keras_retinaface.network import model as model_lib
from tests import conftest

_PATH = np.array([[1.0, -0.7, 0.0], [-0.7, 1.0, -0.7], [0.0, -0.7, 1.0]], np.float32)
# A layer, and the shapes of what it takes, without the batch.
_LAYERS = {
    "SubtractMean": (lambda: preprocessing.SubtractMean((1, 2, 3)), [(None, None, 3)]),
    "CellMeans": (lambda: mesh_tower.CellMeans(4), [(None, None, 3)]),
    "UpsampleLike": (pyramid.UpsampleLike, [(None, None, 2), (None, None, 3)]),
    "DeformableConv2D": (lambda: deform_conv.DeformableConv2D(5, tile=7), [(None, None, 3)]),
    "ChebConv": (lambda: chebyshev.ChebConv(4, 2, _PATH), [(3, 2)]),
    "MeshResample": (lambda: chebyshev.MeshResample(_PATH[:2]), [(3, 2)]),
}
# Their sizes are those of the face model; `mesh/decoder_test.py` has them.
_ELSEWHERE = {"MeshDecoder", "MeshEncoder"}
# The others are these with other widths and depths, which are made small here anyway.
_PRESETS = ["mobilenet025", "mobilenet025_dense", pytest.param("paper_resnet50", marks=pytest.mark.slow)]


def test_no_layer_is_left_out():
    found = set()
    for room in ("layers", "mesh"):
        for path in (conftest.ROOT / "keras_retinaface" / room).glob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                # Whatever is written into files is registered.
                if isinstance(node, ast.ClassDef) and "register_keras_serializable" in map(
                    _called, node.decorator_list
                ):
                    found.add(node.name)
    assert found == {*_LAYERS, *_ELSEWHERE}


def _called(decorator):
    return decorator.func.attr if isinstance(decorator, ast.Call) else ""


def _values(shapes, batch_size, size):
    random = np.random.default_rng(0)
    filled = [[batch_size, *(given or side for given, side in zip(shape, (*size, 0)))] for shape in shapes]
    return [random.uniform(-2, 2, shape).astype(np.float32) for shape in filled]


def _model(name, dtype=None):
    make, shapes = _LAYERS[name]
    layer = make()
    if dtype:
        layer = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    inputs = [keras.Input(shape) for shape in shapes]
    inputs = inputs[0] if len(inputs) == 1 else inputs
    model = keras.Model(inputs, layer(inputs))
    random = np.random.default_rng(1)
    model.set_weights([random.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model, layer


def _run(model, values):
    outputs = model(values[0] if len(values) == 1 else values, training=False)
    return {name: np.array(tf.cast(value, tf.float32)) for name, value in _named(outputs).items()}


def _named(outputs):
    return outputs if isinstance(outputs, dict) else {"output": outputs}


def _assert_near(found, wanted, share=0.0):
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-5 + share * np.abs(wanted[name]).max())


@pytest.mark.parametrize("name", _LAYERS)
def test_a_layer_comes_back_from_its_config_and_from_both_kinds_of_file(name, tmp_path):
    model, layer = _model(name)
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config
    values = _values(_LAYERS[name][1], 2, (7, 9))
    wanted = _run(model, values)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    _assert_near(_run(loaded, values), wanted)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded.set_weights([0 * weight for weight in loaded.get_weights()])
    loaded.load_weights(tmp_path / "model.weights.h5")
    _assert_near(_run(loaded, values), wanted)


@pytest.mark.parametrize("name", _LAYERS)
def test_a_layer_takes_any_batch_and_size_and_says_what_comes_out(name):
    model, layer = _model(name)
    shapes = _LAYERS[name][1]
    for batch_size, size in ((1, (1, 1)), (3, (7, 10)), (2, (8, 5))):
        values = _values(shapes, batch_size, size)
        together = _run(model, values)
        alone = [_run(model, [value[row : row + 1] for value in values]) for row in range(batch_size)]
        _assert_near(together, {key: np.concatenate([one[key] for one in alone]) for key in together})
        given = [value.shape for value in values]
        assert tuple(layer.compute_output_shape(given[0] if len(given) == 1 else given)) == together["output"].shape


@pytest.mark.parametrize("name", _LAYERS)
def test_a_layer_in_mixed_precision_is_near_single(name):
    single, mixed = _model(name)[0], _model(name, "mixed_bfloat16")[0]
    values = _values(_LAYERS[name][1], 2, (7, 9))
    outputs = mixed(values[0] if len(values) == 1 else values)
    assert outputs.dtype == tf.bfloat16
    _assert_near(_run(mixed, values), _run(single, values), share=0.03)


def _network(config):
    made = model_lib.RetinaFace(config)
    random = np.random.default_rng(2)
    for layer in made.layers:
        # What starts at zero would hide that it was lost.
        if layer.name.endswith("_bn") or isinstance(layer, deform_conv.DeformableConv2D):
            layer.set_weights([w + random.uniform(0, 0.05, w.shape) for w in layer.get_weights()])
    return made


@pytest.mark.parametrize("name", config_lib.PRESETS)
def test_a_preset_comes_back_from_its_config(name):
    config = config_lib.Config.preset(name)
    assert config_lib.Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("name", _PRESETS)
def test_the_network_of_a_preset(name, tmp_path, monkeypatch):
    for depths in resnet.DEPTHS:
        monkeypatch.setitem(resnet.DEPTHS, depths, (1, 1, 1, 1))
    config = config_lib.Config.preset(name).replace(pyramid_channels=16)
    network = _network(config)

    images = np.random.default_rng(3).integers(0, 256, (2, 67, 41, 3)).astype(np.float32)
    wanted = _run(network, [images])
    # Sums of a thousand products in another order.
    _assert_near({key: value[1:] for key, value in wanted.items()}, _run(network, [images[1:]]), share=1e-4)
    assert all(np.isfinite(value).all() and value.std() > 0 for key, value in wanted.items() if key != "mesh_code")

    network.save(tmp_path / "model.keras")
    loaded = model_file.load(tmp_path / "model.keras")
    assert loaded.config == config
    _assert_near(_run(loaded, [images]), wanted)
    network.save_weights(tmp_path / "model.weights.h5")
    loaded.set_weights([0 * weight for weight in loaded.get_weights()])
    model_file.load_weights(loaded, tmp_path / "model.weights.h5")
    _assert_near(_run(loaded, [images]), wanted)

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = model_lib.RetinaFace(config)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(network.get_weights())
    assert {outputs.dtype for outputs in mixed(images, training=False).values()} == {tf.float32}
    _assert_near(_run(mixed, [images]), wanted, share=0.15)
