import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.layers import preprocessing


@pytest.mark.parametrize("shape", [(1, 3, 5, 3), (2, None, None, 3), (None, None, None, 3)])
def test_each_channel_loses_its_mean(shape):
    layer = preprocessing.SubtractMean((123.0, 117.0, 104.0))
    image = np.random.default_rng(0).integers(0, 256, (shape[0] or 2, 3, 5, 3)).astype(np.uint8)
    run = tf.function(layer, input_signature=[tf.TensorSpec(shape, tf.uint8)])
    np.testing.assert_array_equal(run(image), image.astype(np.float32) - [123.0, 117.0, 104.0])
    assert run.get_concrete_function().output_shapes.as_list() == list(shape)
