import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.network import accumulation
from keras_retinaface.network import model as model_lib
from tests import batches


def _model():
    keras.utils.set_random_seed(0)
    model = model_lib.RetinaFace(config_lib.Config().replace(pyramid_channels=8, ohem_pool="image"))
    for layer in model.layers:  # norms that learn see each part on its own
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


def _batch(model, size):
    images = tf.constant(batches.images(size, 32, 32))
    targets = batches.targets(model.config, images, 2)
    targets["state"][0, 2:9] = 1  # parts of unequal weight
    return images, {name: tf.constant(value) for name, value in targets.items()}


def _weights(model):
    return [np.array(variable) for variable in model.trainable_variables]


def test_parts_take_the_step_of_the_whole_batch():
    whole, parts = _model(), _model()
    before, (images, targets) = _weights(whole), _batch(whole, 4)
    with tf.GradientTape() as tape:
        loss = whole.compute_loss(images, targets, whole(images, training=True))
    variables = whole.trainable_variables
    gradients = tape.gradient(loss, [accumulation._tensor(variable) for variable in variables])
    whole.optimizer.apply_gradients(zip(gradients, variables))
    accumulation.train_step(parts, images, targets, 2)
    expected, found = _weights(whole), _weights(parts)
    assert any(np.abs(new - old).max() > 1e-3 for new, old in zip(expected, before))
    for variable, value, wanted in zip(variables, found, expected):
        np.testing.assert_allclose(value, wanted, atol=1e-5, err_msg=variable.name)


def test_a_batch_that_does_not_divide_is_an_error():
    model = _model()
    images, targets = _batch(model, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`accumulate_steps` must divide the images"):
        accumulation.train_step(model, images, targets, 2)
