import math

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import colour

IMAGE = tf.random.stateless_uniform([40, 30, 3], [0, 1], 0, 255)
ONE, ZERO = tf.constant(1.0), tf.constant(0.0)
BOTH = pytest.mark.parametrize("adjust", [colour.adjust_hsv, colour.adjust_hsv_plain])


@pytest.mark.skipif(not colour.HAS_ADDONS, reason="tensorflow-addons has no build for this TensorFlow")
@pytest.mark.parametrize("values", [(0.3, 1.4, 0.8), (-2.0, 0.0, 1.0), (0.0, 0.5, 1.7)])
def test_addons_and_plain_tensorflow_agree(values):
    values = [tf.constant(value) for value in values]
    expected = colour.adjust_hsv(IMAGE, *values)
    # The addons round their matrix to eight digits.
    np.testing.assert_allclose(colour.adjust_hsv_plain(IMAGE, *values), expected, atol=0.3)


@BOTH
def test_nothing_and_a_full_turn_change_nothing(adjust):
    for hue in (0.0, 2 * math.pi):
        np.testing.assert_allclose(adjust(IMAGE, tf.constant(hue), ONE, ONE), IMAGE, atol=0.2)


@BOTH
def test_no_saturation_is_grey_of_the_same_luma(adjust):
    grey = adjust(IMAGE, ZERO, ZERO, ONE).numpy()
    luma = IMAGE.numpy() @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey, np.repeat(luma[..., None], 3, axis=-1), atol=0.2)


@BOTH
def test_value_scales(adjust):
    np.testing.assert_allclose(adjust(IMAGE, ZERO, ONE, tf.constant(0.5)), 0.5 * IMAGE, atol=0.2)


@BOTH
def test_a_turn_of_hue_keeps_luma_and_moves_colour(adjust):
    turned = adjust(IMAGE, tf.constant(0.5), ONE, ONE).numpy()
    weights = [0.299, 0.587, 0.114]
    np.testing.assert_allclose(turned @ weights, IMAGE.numpy() @ weights, atol=0.3)
    # Pure red turns towards magenta or yellow: one of the other channels rises.
    red = adjust(tf.constant([[[200.0, 0.0, 0.0]]]), tf.constant(0.5), ONE, ONE).numpy()[0, 0]
    assert red[0] < 200 and max(red[1:]) > 40
