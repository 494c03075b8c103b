import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.layers import deform_conv
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import optimizer as optimizer_lib
from keras_retinaface.weights import arrays


@pytest.fixture
def model():
    """A deformable convolution, a norm and an ordinary convolution."""
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 2))
    x = deform_conv.DeformableConv2D(2, name="deformable")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(image, keras.layers.Conv2D(2, 1, name="last")(x))


def _training(**changes):
    return config_lib.Config().replace(learning_rate=0.5, warmup=0.0, milestones=(1.0,), **changes).training


def _values(model):
    return {name: tf.convert_to_tensor(value).numpy() for name, value in arrays.names(model).items()}


def _apply(optimizer, model, gradient):
    variables = model.trainable_variables
    optimizer.apply_gradients([(tf.fill(variable.shape, gradient), variable) for variable in variables])


def test_steps_worked_example():
    schedule = optimizer_lib.WarmupSteps(0.01, 10, (50, 70))
    rates = {0: 1e-3, 5: 5.5e-3, 10: 1e-2, 49: 1e-2, 50: 1e-3, 69: 1e-3, 70: 1e-4}
    for step, rate in rates.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-5)
    again = optimizer_lib.WarmupSteps.from_config(schedule.get_config())
    np.testing.assert_allclose(again(7), schedule(7))


def test_cosine_worked_example():
    schedule = optimizer_lib.WarmupCosine(0.01, 10, 110)
    # A quarter of the way down is (1 + cos 45 degrees) / 2.
    rates = {0: 1e-3, 5: 5.5e-3, 10: 1e-2, 35: 8.5355e-3, 60: 5e-3, 110: 0.0, 200: 0.0}
    for step, rate in rates.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-4, atol=1e-9)
    again = optimizer_lib.WarmupCosine.from_config(schedule.get_config())
    np.testing.assert_allclose(again(37), schedule(37))


def test_schedule_scales_with_the_run():
    schedule = optimizer_lib.make_schedule(config_lib.Training(), 1600)  # 80 epochs of 20 steps
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 100, 1099, 1100, 1359, 1360)], [1e-3, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4], rtol=1e-5
    )
    cosine = optimizer_lib.make_schedule(config_lib.Training(schedule="cosine"), 1600)
    np.testing.assert_allclose([cosine(100), cosine(850)], [1e-2, 5e-3], rtol=1e-5)


@pytest.mark.parametrize("mode", config_lib.DECAY_MODES)
def test_two_steps_of_sgd_with_decay(model, mode):
    before = _values(model)
    optimizer = optimizer_lib.make_optimizer(_training(weight_decay=0.2, decay_mode=mode), 100, model)
    for _ in range(2):
        _apply(optimizer, model, 0.1)
    for name, value in _values(model).items():
        weight, velocity = before[name].astype(np.float64), 0.0
        if name.startswith("norm/moving"):
            np.testing.assert_array_equal(value, weight)
            continue
        decay = 0.2 if name in ("deformable/kernel", "last/kernel") else 0.0
        for _ in range(2):  # as PyTorch writes it
            pull = decay * weight
            velocity = 0.9 * velocity + 0.1 + (pull if mode == "l2" else 0.0)
            weight = weight - 0.5 * velocity - (0.5 * pull if mode == "decoupled" else 0.0)
        np.testing.assert_allclose(value, weight, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", config_lib.OPTIMIZERS)
def test_rates_scale_the_step_and_its_decay(model, name):
    changes = {}
    last = [0.1 if variable is model.get_layer("last").kernel else 1.0 for variable in model.trainable_variables]
    assert last.count(0.1) == 1
    for rates in ([], last):
        start, copy = _values(model), keras.models.clone_model(model)
        arrays.assign(copy, start, "start")
        kind = {"sgd": optimizer_lib.SGD, "adam": optimizer_lib.Adam}[name]
        optimizer = kind(learning_rate=0.01, decay=0.2, decay_mode="decoupled", rates=rates)
        _apply(optimizer, copy, 0.3)
        changes[bool(rates)] = {key: value - start[key] for key, value in _values(copy).items()}
    for key, change in changes[False].items():
        factor = 0.1 if key == "last/kernel" else 1.0
        np.testing.assert_allclose(changes[True][key], factor * change, rtol=1e-4, atol=1e-7, err_msg=key)


def test_offsets_learn_at_a_tenth_under_adam_too(model):
    start = _values(model)
    optimizer = optimizer_lib.make_optimizer(_training(optimizer="adam", weight_decay=0.0), 100, model)
    _apply(optimizer, model, 7.0)
    # Adam's first step is the rate itself, whatever the gradient.
    for name, value in _values(model).items():
        rate = 0.05 if "offset" in name else 0.0 if "moving" in name else 0.5
        np.testing.assert_allclose(value - start[name], np.full_like(value, -rate), rtol=1e-4, err_msg=name)


def test_two_steps_of_adam_with_decoupled_decay(model):
    settings = _training(optimizer="adam", decay_mode="decoupled", weight_decay=0.2, momentum=0.8, square_momentum=0.9)
    before, optimizer = _values(model), optimizer_lib.make_optimizer(settings, 100, model)
    for gradient in (0.3, -0.1):
        _apply(optimizer, model, gradient)
    for name in ("last/kernel", "last/bias"):
        weight, first, second = before[name].astype(np.float64), 0.0, 0.0
        for step, gradient in enumerate((0.3, -0.1), start=1):  # as PyTorch writes AdamW
            weight = weight * (1 - 0.5 * (0.2 if name == "last/kernel" else 0.0))
            first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
            weight = weight - 0.5 * first / (1 - 0.8**step) / np.sqrt(second / (1 - 0.9**step))
        np.testing.assert_allclose(_values(model)[name], weight, rtol=1e-4, atol=1e-5, err_msg=name)


def test_backbone_has_a_rate_of_its_own():
    model = model_lib.RetinaFace()
    start = _values(model)
    optimizer = optimizer_lib.make_optimizer(_training(backbone_rate=0.1, weight_decay=0.0), 100, model)
    _apply(optimizer, model, 0.01)
    for name, value in _values(model).items():
        rate = 0.5 * (0.1 if name.startswith("stage") else 1.0)
        change = 0.0 if "moving" in name else -rate * 0.01
        np.testing.assert_allclose(value - start[name], np.full_like(value, change), atol=1e-6, err_msg=name)


def test_clipping_takes_the_norm_of_all_gradients(model):
    start = _values(model)
    optimizer = optimizer_lib.make_optimizer(_training(clip_norm=2.0, weight_decay=0.0), 100, model)
    _apply(optimizer, model, 100.0)
    change = {name: (value - start[name]) / -0.5 for name, value in _values(model).items()}
    assert np.sqrt(sum(np.sum(np.square(value)) for value in change.values())) == pytest.approx(2.0, rel=1e-4)
    small = 1e-3  # shorter ones stay
    start = _values(model)
    optimizer = optimizer_lib.make_optimizer(_training(clip_norm=2.0, weight_decay=0.0), 100, model)
    _apply(optimizer, model, small)
    np.testing.assert_allclose(_values(model)["last/kernel"] - start["last/kernel"], -0.5 * small, rtol=1e-2)


def test_rates_of_another_model_are_refused(model):
    with pytest.raises(ValueError, match="one for each of 8 variables. Received: 2 rates"):
        optimizer_lib.SGD(rates=[1.0, 0.1]).build(model.trainable_variables)


@pytest.mark.parametrize("name", config_lib.OPTIMIZERS)
def test_a_saved_model_goes_on_with_its_optimizer(model, name, tmp_path):
    training = _training(optimizer=name, clip_norm=0.5, decay_mode="decoupled", schedule="cosine")
    model.compile(optimizer=optimizer_lib.make_optimizer(training, 100, model), loss="mse")
    x, y = np.ones((4, 4, 4, 2), np.float32), np.zeros((4, 4, 4, 2), np.float32)
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config()["rates"] == model.optimizer.get_config()["rates"]
    for both in (model, loaded):
        both.fit(x, y, epochs=1, verbose=0)
    for key, value in _values(model).items():
        np.testing.assert_allclose(_values(loaded)[key], value, rtol=1e-5, atol=1e-6, err_msg=key)
