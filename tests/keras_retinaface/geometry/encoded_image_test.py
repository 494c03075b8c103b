import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.geometry import encoded_image
from keras_retinaface.media import image_file
from tests import pictures


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_orientation_is_turned_upright(kind):
    upright = pictures.noise()
    decode = tf.function(
        lambda content, number: (
            encoded_image.decode(content),
            encoded_image.decode_window(content, number, tf.constant([1, 2, 3, 4])),
        ),
        input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)],
    )
    options = {"subsampling": 0} if kind == "JPEG" else {}
    for number in pictures.ORIENTATIONS:
        for order in "<>":
            content = pictures.turned(upright, number, kind, order, **options)
            decoded, window = (image.numpy() for image in decode(content, number))
            np.testing.assert_array_equal(decoded, image_file.decode(content, kind))
            if kind == "PNG":
                np.testing.assert_array_equal(decoded, upright)
            np.testing.assert_array_equal(window, decoded[1:4, 2:6])


def test_sixteen_bits_are_scaled_and_other_files_refused():
    decode = tf.function(encoded_image.decode, input_signature=[tf.TensorSpec([], tf.string)])
    grey = pictures.encode(np.random.default_rng(0).integers(0, 65536, (9, 7), dtype=np.uint16))
    np.testing.assert_array_equal(decode(grey), image_file.decode(grey, "grey"))
    for content in (b"", b"text", b"\xff\xd8\xff", pictures.encode(pictures.noise(), "GIF"), grey[:20], grey[:-30]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(content)


def test_the_limit_is_told_by_the_header_alone():
    content = pictures.encode(pictures.noise(40, 50))
    read = tf.function(
        encoded_image.read_header, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)]
    )
    np.testing.assert_array_equal(read(content[:60], 2000)[0], [40, 50])
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewer pixels"):
        read(content[:60], 1999)
