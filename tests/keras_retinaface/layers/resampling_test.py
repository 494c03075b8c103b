import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.layers import resampling


def _centres(count, stride):
    return (np.arange(count) + 0.5) * stride


@pytest.mark.parametrize("new_stride", [5, 6, 7])
@pytest.mark.parametrize("is_static", [True, False])
def test_a_ramp_stays_a_ramp_whatever_the_size(new_stride, is_static):
    layer = resampling.Resample(4, new_stride)
    shape = (23, 31) if is_static else (None, None)
    call = tf.function(layer, input_signature=[tf.TensorSpec([1, *shape, 2], tf.float32)])
    y, x = np.meshgrid(_centres(23, 4), _centres(31, 4), indexing="ij")
    resized = call(np.stack([y, x], axis=-1)[None].astype(np.float32)).numpy()[0]
    rows, columns = -(-23 * 4 // new_stride), -(-31 * 4 // new_stride)
    assert resized.shape == (rows, columns, 2)
    y, x = np.meshgrid(_centres(rows, new_stride), _centres(columns, new_stride), indexing="ij")
    # The last row and column may mix with the padding behind the image.
    np.testing.assert_allclose(resized[:-1, :-1], np.stack([y, x], axis=-1)[:-1, :-1], rtol=1e-5)


def test_the_shape_is_known_before_the_call():
    layer = resampling.Resample(4, 5)
    image = keras.Input((24, None, 3))
    assert tuple(layer(image).shape) == (None, 20, None, 3)
    copy = resampling.Resample.from_config(layer.get_config())
    assert (copy.old_stride, copy.new_stride) == (4, 5)
