import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import colour


def _image():
    return tf.constant(np.random.default_rng(0).uniform(0, 255, (17, 23, 3)), tf.float32)


def _scalars(*values):
    return [tf.constant(value, tf.float32) for value in values]


def test_identity():
    np.testing.assert_allclose(colour.adjust_hsv(_image(), *_scalars(0, 1, 1)), _image(), atol=0.2)
    np.testing.assert_allclose(colour.adjust_hsv_plain(_image(), *_scalars(2 * np.pi, 1, 1)), _image(), atol=1e-2)


def test_worked_example():
    # Grey has no chroma: only the value changes it. Red without saturation is its luma, 0.299.
    grey = tf.fill([2, 2, 3], 100.0)
    np.testing.assert_allclose(colour.adjust_hsv(grey, *_scalars(1.0, 1.7, 0.5)), np.full((2, 2, 3), 50), atol=0.1)
    red = tf.constant([[[200.0, 0.0, 0.0]]])
    np.testing.assert_allclose(colour.adjust_hsv(red, *_scalars(0, 0, 1)), [[[59.8] * 3]], atol=0.1)


def test_turning_hue_back_is_identity():
    there = colour.adjust_hsv_plain(_image(), *_scalars(0.4, 1.25, 0.8))
    back = colour.adjust_hsv_plain(there, *_scalars(-0.4, 0.8, 1.25))
    np.testing.assert_allclose(back, _image(), atol=1e-2)
    assert np.abs(there - _image()).mean() > 5


@pytest.mark.skipif(not colour.HAS_ADDONS, reason="tensorflow-addons has no build for this TensorFlow")
@pytest.mark.parametrize("hue, saturation, value", [(0.3, 1, 1), (0, 0.5, 1), (0, 1, 1.5), (-0.3, 1.5, 0.5)])
def test_addons_and_its_twin_are_equal(hue, saturation, value):
    scalars = _scalars(hue, saturation, value)
    np.testing.assert_allclose(
        colour.adjust_hsv(_image(), *scalars), colour.adjust_hsv_plain(_image(), *scalars), atol=0.25
    )


def test_addons_is_used_exactly_where_it_is():
    assert colour.HAS_ADDONS == tf.__version__.startswith("2.15.")
