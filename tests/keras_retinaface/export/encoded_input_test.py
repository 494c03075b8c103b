import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface import pixel_limit
from keras_retinaface.export import encoded_input
from keras_retinaface.media import image_file
from tests import pictures


@pytest.fixture(scope="module")
def decode():
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(lambda files: encoded_input.decode_padded(files, 10_000), input_signature=signature)


def test_files_past_the_limit_cost_only_themselves(decode):
    small, limit, bomb = (
        pictures.encode(np.zeros((*size, 3), np.uint8)) for size in ((40, 50), (100, 100), (1, 10_001))
    )
    images, is_broken = decode([small, bomb, limit, bomb[:60]])
    np.testing.assert_array_equal(is_broken, [False, True, False, True])
    assert images.shape == (4, 100, 100, 3)
    np.testing.assert_array_equal(images[1], np.broadcast_to(config_lib.PADDING, (100, 100, 3)))
    assert not images[0, :40, :50].numpy().any() and not images[2].numpy().any()


def test_a_high_and_a_wide_image_are_not_padded_to_each_other(decode):
    high, wide, small = (pictures.encode(np.zeros((*size, 3), np.uint8)) for size in ((5000, 2), (2, 5000), (40, 50)))
    images, is_broken = decode([high, small, wide])
    np.testing.assert_array_equal(is_broken, [True, False, True])
    assert images.shape == (3, 40, 50, 3) and not images[1].numpy().any()
    np.testing.assert_array_equal(images[0], np.broadcast_to(config_lib.PADDING, (40, 50, 3)))
    # Alone it is read.
    np.testing.assert_array_equal(decode([high])[1], [False])
    images, is_broken = decode([high, wide])
    assert images.shape == (2, 32, 32, 3) and is_broken.numpy().all()


def test_without_a_limit_of_its_own_a_file_may_become_what_its_size_lets_it(monkeypatch):
    monkeypatch.setattr(pixel_limit, "SMALL_PIXELS", 2_000)
    monkeypatch.setattr(pixel_limit, "PIXELS_PER_BYTE", 4)
    monkeypatch.setattr(pixel_limit, "MAX_PIXELS", 9_000)
    blank, noise, large = (np.zeros((60, 60, 3), np.uint8), pictures.noise(60, 60), pictures.noise(100, 100))
    files = [pictures.encode(image) for image in (blank, noise, large)]
    _, is_broken = tf.function(lambda files: encoded_input.decode_padded(files, None))(tf.constant(files))

    def is_refused(content):
        try:
            image_file.decode(content, "a")
        except image_file.ImageError:
            return True
        return False

    assert is_broken.numpy().tolist() == [True, False, True] == [is_refused(file) for file in files]
