import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.export import channel_ranges
from keras_retinaface.network import model


def _noisy(negative_slope):
    """A small model whose channels differ by a factor of up to 16, and a picture for it."""
    keras.utils.set_random_seed(1)  # of another start, few channels may be heard, and those alike
    network = config_lib.Network(negative_slope=negative_slope, pyramid_channels=16)
    made = model.RetinaFace(config_lib.Config(network=network))
    rng = np.random.default_rng(0)
    for layer in made.layers:
        if layer.name.endswith("_bn"):
            gamma, beta, mean, variance = layer.get_weights()
            scale = 4.0 ** rng.uniform(-1.0, 1.0, gamma.shape)
            layer.set_weights([gamma * scale, rng.normal(size=beta.shape) * scale, mean, variance])
    return made, rng.integers(0, 256, (1, 64, 96, 3)).astype(np.uint8)


def _ranges(of, norm, image, negative_slope):
    return channel_ranges._ranges(of, [of.get_layer(norm)], [image])[norm]


@pytest.mark.long
def test_the_copy_computes_the_same_with_channels_of_one_range():
    for negative_slope in (0.0, 0.1):
        made, image = _noisy(negative_slope)
        before = [value.copy() for value in made.get_weights()]
        equal = channel_ranges.equalize(made, [image])
        expected, got = (of(image.astype(np.float32), training=False) for of in (made, equal))
        for name in expected:
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(got[name] / scale, expected[name] / scale, atol=1e-4)
        for value, old in zip(made.get_weights(), before):
            np.testing.assert_array_equal(value, old)
        # A depthwise convolution, a pointwise one whose map two convolutions read, and a stem in the context.
        for norm in ("stage1_2_depthwise_bn", "stage2_5_pointwise_bn", "context_P3_5x5_1_bn"):
            wide, even = (_ranges(of, norm, image, negative_slope) for of in (made, equal))
            # Channels that are all but silent are not blown up to the others' range.
            is_heard = wide > np.median(wide[wide > 0]) / 60
            wide, even = wide[is_heard], even[is_heard]
            assert wide.max() / wide.min() > 2 and even.max() / even.min() < 1.01
        # What meets another map in an addition or a concatenation keeps its scale.
        for norm in ("lateral_P4_bn", "context_P3_3x3_bn"):
            np.testing.assert_array_equal(equal.get_layer(norm).get_weights()[0], made.get_layer(norm).get_weights()[0])
