import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config
from keras_retinaface.export import byte_input, tflite
from keras_retinaface.network import model
from keras_retinaface.network import model as model_lib


@pytest.fixture(scope="module")
def detector():
    return model_lib.RetinaFace.from_preset("mobilenet025")


@pytest.mark.parametrize("size", [(96, 128), (97, 129), (64, 33)])
def test_pixels_give_what_the_model_gives(detector, size):
    image = np.random.RandomState(0).randint(0, 256, (1, *size, 3)).astype(np.uint8)
    wanted = detector(image.astype(np.float32), training=False)
    found = byte_input.fold_mean(detector, size)(tf.constant(image))
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-4)


def test_a_model_whose_means_are_no_bytes_is_called_as_it_is():
    network = config.Network(backbone="mobilenet_v2")
    other = model.RetinaFace(config.Config(network=network))
    assert other.get_layer("subtract_mean").mean[0] == 123.675
    image = np.random.RandomState(0).randint(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    found = byte_input.fold_mean(other, (64, 64))(tf.constant(image))
    np.testing.assert_array_equal(found["scores"], other(image.astype(np.float32), training=False)["scores"])


def test_an_export_turns_bytes_into_floats_right_before_the_first_convolution(detector, tmp_path):
    tflite.write(detector, tmp_path / "faces.tflite", config.Detection(), image_size=(64, 96))
    kind = tf.lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = tf.lite.Interpreter(str(tmp_path / "faces.tflite"), experimental_op_resolver_type=kind)
    operations = [operation["op_name"] for operation in interpreter._get_ops_details()]
    assert operations[:4] == ["CONCATENATION", "CONCATENATION", "CAST", "CONV_2D"]
