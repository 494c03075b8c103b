import keras
import numpy as np

from keras_retinaface.layers import context


def test_half_sees_3_pixels_a_quarter_5_and_a_quarter_7():
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    model = keras.Model(image, context.build(image, 8, negative_slope=0.1, name="context_P3"))
    for layer in model.layers:  # so that no ReLU hides a pixel
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([np.abs(weight) for weight in layer.get_weights()])
    dark, lit = np.zeros((2, 1, 15, 15, 3), np.float32)
    lit[0, 7, 7] = 1.0
    difference = np.abs(model(lit).numpy() - model(dark).numpy())[0]
    assert difference.shape == (15, 15, 8)
    for channels, reach in ((slice(0, 4), 1), (slice(4, 6), 2), (slice(6, 8), 3)):
        seen = difference[..., channels].any(-1)
        expected = np.zeros((15, 15), bool)
        expected[7 - reach : 8 + reach, 7 - reach : 8 + reach] = True
        np.testing.assert_array_equal(seen, expected)


def test_no_channel_is_negative():
    image = keras.Input((None, None, 4))
    model = keras.Model(image, context.build(image, 4, negative_slope=0.5, name="context_P3"))
    output = model(np.random.default_rng(0).normal(size=(1, 9, 7, 4)).astype(np.float32)).numpy()
    assert output.min() == 0.0 < output.max()
