import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.training import weight_average
from keras_retinaface.weights import arrays


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(2, 1, name="conv"), keras.layers.BatchNormalization(name="norm")]
    model = keras.Sequential([keras.Input((4, 4, 3)), *layers, keras.layers.GlobalMaxPool2D(name="pool")])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return model


def _values(model):
    return {name: tf.convert_to_tensor(weight).numpy() for name, weight in arrays.names(model).items()}


def _set(model, value):
    for weight in arrays.names(model).values():
        weight.assign(np.full(weight.shape, value, np.float32))


def test_worked_example(model):
    _set(model, 1.0)
    average = weight_average.attach(model, 0.15)
    # The first step keeps 1/10 of the start, the second 2/11 of what there is, but no more than 0.15.
    _set(model, 2.0)
    average.update()
    _set(model, 5.0)
    average.update()
    with weight_average.averaged(model):
        for name, value in _values(model).items():
            np.testing.assert_allclose(value, 0.15 * (0.1 * 1.0 + 0.9 * 2.0) + 0.85 * 5.0, rtol=1e-6, err_msg=name)
    for value in _values(model).values():
        np.testing.assert_array_equal(value, np.full_like(value, 5.0))
    assert average.variables[-1].numpy() == 2


def _fit(model, callbacks, **kwargs):
    x = np.random.default_rng(0).normal(size=(12, 4, 4, 3)).astype(np.float32)
    y = np.ones((12, 2), np.float32)
    return model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=callbacks, **kwargs).history


def test_fit_averages_statistics_too_and_leaves_training_alone(model, tmp_path):
    model.save(tmp_path / "start.keras")
    plain = keras.models.load_model(tmp_path / "start.keras")
    _fit(plain, [])
    weight_average.attach(model, 0.9)
    seen = [_values(model)]
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(_values(model)))
    _fit(model, [weight_average.UpdateAverage(), record])
    for name, value in _values(plain).items():
        np.testing.assert_allclose(_values(model)[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
    expected = seen[0]
    for step, value in enumerate(seen[1:]):
        kept = (1 + step) / (10 + step)
        expected = {name: kept * old + (1 - kept) * value[name] for name, old in expected.items()}
    with weight_average.averaged(model):
        for name, value in _values(model).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert not np.allclose(expected["norm/moving_mean"], seen[-1]["norm/moving_mean"])


def test_validation_uses_the_average(model):
    average = weight_average.attach(model, 0.9)
    x, y = np.ones((4, 4, 4, 3), np.float32), np.ones((4, 2), np.float32)
    history = _fit(model, [weight_average.UpdateAverage()], validation_data=(x, y))
    with weight_average.averaged(model):
        expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(history["val_loss"][-1], expected, rtol=1e-5)
    assert abs(model.evaluate(x, y, verbose=0) - expected) > 1e-3 and not average.is_in_model


def test_averaged_returns_the_weights_after_an_error_and_nests(model):
    weight_average.attach(model, 0.9).update()
    _set(model, 3.0)
    with pytest.raises(KeyError), weight_average.averaged(model), weight_average.averaged(model):
        raise KeyError
    np.testing.assert_array_equal(_values(model)["conv/kernel"], np.full((1, 1, 3, 2), 3.0))
    with weight_average.averaged(model), pytest.raises(RuntimeError, match="training inside `averaged`"):
        model.weight_average.update()


def test_no_average_does_nothing(model):
    assert weight_average.attach(model, 0.0) is None
    before = _values(model)
    with weight_average.averaged(model):
        np.testing.assert_array_equal(_values(model)["conv/kernel"], before["conv/kernel"])
    _fit(model, [weight_average.UpdateAverage()])


def test_the_average_is_no_weight_of_the_model(model, tmp_path):
    count = len(model.weights)
    weight_average.attach(model, 0.9).update()
    assert len(model.weights) == count
    with weight_average.averaged(model):
        model.save(tmp_path / "model.keras")
        expected = _values(model)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, value in _values(loaded).items():
        np.testing.assert_array_equal(value, expected[name])
