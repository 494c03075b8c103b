import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import image


@pytest.fixture(params=["tfjs_portrait.jpg", "astronaut.png"])
def photo(request, photos):
    return tf.io.read_file(str(photos / request.param))


def test_size_without_decoding(photo):
    np.testing.assert_array_equal(image.size(photo), image.decode(photo).shape[:2])


@pytest.mark.parametrize("window", [(100, 60, 200, 150), (-40, -30, 200, 150), (50, -25, 5000, 100)])
def test_a_decoded_window_is_the_crop_of_the_decoded_image(photo, window):
    window = tf.constant(window)
    expected = image.crop(image.decode(photo), window)
    decoded = image.decode_window(photo, image.size(photo), window)
    assert decoded.shape == (window[2], window[3], 3)
    # libjpeg has fewer neighbours to mix the colours of the outermost pixels with.
    difference = np.abs(decoded.numpy().astype(int) - expected.numpy().astype(int))
    assert (difference > 2).any(axis=-1).mean() < 0.03


def test_outside_is_the_mean():
    cropped = image.crop(tf.zeros([4, 6, 3], tf.uint8), tf.constant([-1, 2, 6, 9])).numpy()
    expected = np.full((6, 9, 3), image.MEAN)
    expected[1:5, :4] = 0
    np.testing.assert_array_equal(cropped, expected)


def test_a_truncated_file_is_an_error_in_the_graph(photo):
    with pytest.raises(tf.errors.InvalidArgumentError):
        image.decode(tf.strings.substr(photo, 0, 5000))
