import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from data_pipeline import image as image_lib


def _encode(image, kind):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    return tf.constant(file.getvalue())


def _smooth(height=50, width=70):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 3 * columns, 255 - 3 * rows], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG"])
def test_size_and_pixels(kind):
    image = _smooth() // 64 * 64 if kind == "GIF" else _smooth()
    encoded = _encode(image, kind)
    np.testing.assert_array_equal(image_lib.size(encoded), [50, 70])
    error = np.abs(image_lib.decode(encoded).numpy().astype(int) - image)
    assert error.mean() < (0 if kind in ("PNG", "BMP") else 16) + 1e-9


def test_grey_images_have_three_channels():
    decoded = image_lib.decode(_encode(_smooth()[..., 0], "PNG")).numpy()
    np.testing.assert_array_equal(decoded, np.repeat(_smooth()[..., :1], 3, -1))


@pytest.mark.parametrize("window", [[0, 0, 50, 70], [11, 23, 17, 29], [-5, -9, 30, 40], [-10, -10, 90, 100]])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decoding_a_window_is_decoding_and_cropping(kind, window):
    encoded = _encode(_smooth(), kind)
    wanted = image_lib.crop(image_lib.decode(encoded), tf.constant(window)).numpy().astype(int)
    got = image_lib.decode_window(encoded, image_lib.size(encoded), tf.constant(window)).numpy()
    assert got.shape == (*window[2:], 3) and np.abs(got - wanted).max() <= (2 if kind == "JPEG" else 0)
    top, left, height, width = window
    padded = np.full((190, 200, 3), image_lib.MEAN)
    padded[60:110, 60:130] = image_lib.decode(encoded)
    np.testing.assert_array_equal(wanted, padded[60 + top :, 60 + left :][:height, :width])
