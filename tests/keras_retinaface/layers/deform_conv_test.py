import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from keras_retinaface.layers import deform_conv, deform_op


def _random_layer(**arguments):
    layer = deform_conv.DeformableConv2D(6, name="deformable", **arguments)
    layer.build((None, None, None, 4))
    random = np.random.default_rng(2)
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape).astype(np.float32) * 0.4)
    return layer


def _features(*shape):
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("use_mask", [True, False])
def test_new_layer_is_the_ordinary_convolution(use_mask):
    layer = deform_conv.DeformableConv2D(6, use_mask=use_mask)
    features = np.random.default_rng(3).integers(-4, 5, (2, 7, 8, 4)).astype(np.float32)
    layer(features)
    layer.kernel.assign(np.random.default_rng(4).integers(-4, 5, layer.kernel.shape).astype(np.float32))
    ordinary = keras.layers.Conv2D(6, 3, padding="same")
    ordinary.build(features.shape)
    ordinary.set_weights([np.array(layer.kernel), np.array(layer.bias)])
    np.testing.assert_array_equal(layer(features), ordinary(features))


def test_a_model_is_built_without_the_arithmetic(monkeypatch):
    monkeypatch.setattr(deform_op, "convolve", None)
    layer = deform_conv.DeformableConv2D(6, strides=2, padding=1)
    outputs = layer(keras.Input((None, 7, 4)))
    assert tuple(outputs.shape) == (None, None, 4, 6) and outputs.dtype == "float32"
    monkeypatch.undo()
    features = _features(2, 9, 7, 4)
    np.testing.assert_array_equal(keras.Model(layer.input, layer.output)(features), layer(features))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"strides": 2, "padding": 1}, {"padding": "valid", "use_mask": False}],
)
def test_saved_model_file_gives_the_same_numbers(arguments, tmp_path):
    inputs = keras.Input((None, None, 4))
    layer = _random_layer(sampler="sparse", tile=9, **arguments)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    features = _features(2, 9, 10, 4)
    np.testing.assert_array_equal(loaded(features), model(features))
    assert loaded.get_layer("deformable").get_config() == layer.get_config()
    assert layer.compute_output_shape(features.shape) == tuple(layer(features).shape)


def test_inner_convolution_learns_at_a_tenth_of_the_rate():
    features = _features(1, 6, 7, 4)
    layers = [_random_layer(offset_rate=rate) for rate in (0.1, 1.0)]
    gradients = []
    for layer in layers:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(features) ** 2)
        names = [variable.name.split("/")[-1].split(":")[0] for variable in layer.trainable_variables]
        gradients.append(dict(zip(names, tape.gradient(loss, layer.trainable_variables))))
    assert sorted(gradients[0]) == ["bias", "kernel", "offset_bias", "offset_kernel"]
    for name, factor in {"kernel": 1.0, "bias": 1.0, "offset_kernel": 0.1, "offset_bias": 0.1}.items():
        np.testing.assert_allclose(gradients[0][name], factor * gradients[1][name], rtol=1e-4, atol=1e-5)
        assert np.any(np.abs(gradients[0][name]) > 1e-3)


def test_mixed_precision_is_near_single():
    features = _features(1, 8, 9, 4)
    single, mixed = _random_layer(), _random_layer(dtype="mixed_bfloat16")
    outputs = mixed(features)
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), single(features), atol=0.25)
    assert np.std(single(features)) > 1.0


@pytest.mark.parametrize("tile", [4096, 30])
def test_tflite_gives_the_same_numbers(tile):
    from ai_edge_litert import interpreter

    layer = _random_layer(tile=tile)
    function = tf.function(layer, input_signature=[tf.TensorSpec([1, 12, 11, 4])], autograph=False)
    frozen = convert_to_constants.convert_variables_to_constants_v2(function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    runner = interpreter.Interpreter(model_content=converter.convert())
    runner.allocate_tensors()
    features = _features(1, 12, 11, 4)
    runner.set_tensor(runner.get_input_details()[0]["index"], features)
    runner.invoke()
    outputs = runner.get_tensor(runner.get_output_details()[0]["index"])
    np.testing.assert_allclose(outputs, layer(features), atol=1e-4)
    assert np.std(outputs) > 1.0


def test_saved_model_keeps_the_gradient(tmp_path):
    layer = _random_layer(tile=30)
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 4])], autograph=False)
    def run(features):
        return layer(features)

    module.run, module.layer = run, layer
    tf.saved_model.save(module, str(tmp_path), options=tf.saved_model.SaveOptions(experimental_custom_gradients=True))
    features = tf.constant(_features(1, 7, 8, 4))
    gradients = []
    loaded = tf.saved_model.load(str(tmp_path))
    for function in (layer, loaded.run):
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(function(features) ** 2)
        gradients.append(tape.gradient(loss, features))
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0}, "`filters` must be 1 or more. Received: filters=0"),
        ({"filters": 1, "padding": "full"}, "`padding` must be 'same', 'valid' or a number"),
        ({"filters": 1, "sampler": "cubic"}, "`sampler` must be one of"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        deform_conv.DeformableConv2D(**arguments)


def test_a_config_of_an_earlier_version_loads_unless_it_means_another_layer():
    config = deform_conv.DeformableConv2D(4).get_config()
    old = {**config, "dilation_rate": 1, "groups": 1}
    assert deform_conv.DeformableConv2D.from_config(old).get_config() == config and "groups" in old
    with pytest.raises(ValueError, match="`groups` of a deformable convolution must be 1. Received: "):
        deform_conv.DeformableConv2D.from_config({**old, "groups": 2})
