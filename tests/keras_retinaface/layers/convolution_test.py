import keras
import numpy as np
import pytest

from keras_retinaface.layers import convolution


def _sums(size, *, build=convolution.conv_norm, filters=(1,), **options):
    """Returns what a block of ones makes of an image of ones: how many pixels each output sees."""
    image = keras.Input((*size, 1))
    output = build(image, *filters, 3, name="a", negative_slope=None, epsilon=0.0, **options)
    model = keras.Model(image, output)
    model.get_layer("a").set_weights([np.ones((3, 3, 1, 1), np.float32)])
    return model(np.ones((1, *size, 1), np.float32)).numpy()[0, ..., 0]


@pytest.mark.parametrize("build", ["conv_norm", "depthwise_norm"])
def test_strides_pad_both_ends_or_an_even_side_at_its_end(build):
    options = {"build": getattr(convolution, build), "filters": (1,) if build == "conv_norm" else ()}
    # An even side: PyTorch's first output lacks a row, TensorFlow's last one does. An odd side: both lack both.
    np.testing.assert_allclose(_sums((4, 4), stride=2, **options), [[4, 6], [6, 9]])
    np.testing.assert_allclose(_sums((4, 4), stride=2, padding="same", **options), [[9, 6], [6, 4]])
    for padding in ("symmetric", "same"):
        sums = _sums((5, 5), stride=2, padding=padding, **options)
        np.testing.assert_allclose(sums, [[4, 6, 4], [6, 9, 6], [4, 6, 4]])
        np.testing.assert_allclose(_sums((2, 3), padding=padding, **options), [[4, 6, 4], [4, 6, 4]])


def test_activations_are_what_the_slope_says():
    x = np.array([[-2.0, 3.0]], np.float32)
    for slope, expected in ((None, [-2, 3]), (0.0, [0, 3]), (0.25, [-0.5, 3])):
        values = keras.Input((2,))
        model = keras.Model(values, convolution.norm_activation(values, "a", slope, epsilon=0.0))
        np.testing.assert_allclose(model(x), [expected])
        assert [layer.name for layer in model.layers][1:] == (["a_bn"] if slope is None else ["a_bn", "a_relu"])
