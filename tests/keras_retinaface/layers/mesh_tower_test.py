import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.layers import mesh_tower
from keras_retinaface.network import model as model_lib

CONFIG = config_lib.Config().replace(dense=True, dense_channels=8)


def test_cells_are_means_from_the_left_top_corner():
    # Two rows of three: squares of two pixels give one mean and one of a single column, its other half zero.
    image = tf.constant([[[1.0, 3.0, 8.0], [5.0, 7.0, 16.0]]])[..., None]
    np.testing.assert_allclose(mesh_tower.CellMeans(2)(image)[0, :, :, 0], [[4 / 64, 6 / 64]])
    layer = mesh_tower.CellMeans.from_config(mesh_tower.CellMeans(4).get_config())
    assert layer.compute_output_shape((2, 9, None, 3)) == (2, 3, None, 3)
    assert layer(tf.zeros((2, 9, 8, 3))).shape == (2, 3, 2, 3)


@pytest.mark.parametrize("size", [(176, 224), (170, 213)])
def test_windows_give_what_the_whole_model_gives(size):
    keras.utils.set_random_seed(0)
    model = model_lib.RetinaFace(CONFIG)
    for layer in model.layers:
        if layer.name in ("dense_P3", "dense_P4", "dense_P5"):
            layer.kernel.assign(tf.random.stateless_normal(layer.kernel.shape, (0, 1)))
    image = tf.random.stateless_uniform((1, *size, 3), (0, 2), 0, 255)
    probe = keras.Model(
        model.input,
        [model.get_layer("dense_cells_P4").output, model.get_layer("context_P4_concat").output]
        + [model.get_layer("dense_P4").output],
    )
    cells, context, expected = (np.asarray(value)[0] for value in probe(image))
    windows = mesh_tower.window_model(8, context.shape[-1], 288, name="P4")
    for layer in windows.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    # Away from the border, where the window lies inside the image.
    for row, column in ((4, 4), (4, 7), (5, 6)):
        top, left = (2 * place + 1 - mesh_tower.WINDOW // 2 for place in (row, column))
        window = cells[top : top + mesh_tower.WINDOW, left : left + mesh_tower.WINDOW]
        reach = context[
            row - mesh_tower.REACH : row + mesh_tower.REACH + 1,
            column - mesh_tower.REACH : column + mesh_tower.REACH + 1,
        ]
        assert window.shape[:2] == (mesh_tower.WINDOW, mesh_tower.WINDOW)
        np.testing.assert_allclose(windows([window[None], reach[None]])[0], expected[row, column], atol=1e-3, rtol=1e-3)


def test_without_channels_the_head_is_the_papers_convolution():
    plain = model_lib.RetinaFace(CONFIG.replace(dense_channels=0))
    names = {layer.name for layer in plain.layers if layer.name.startswith("dense_") and layer.weights}
    assert names == {"dense_P3", "dense_P4", "dense_P5"}
    # 144 numbers for each of two anchors, from 64 features.
    assert plain.get_layer("dense_P4").count_params() == 288 * 65
    with pytest.raises(ValueError, match="`dense_channels` must not be negative. Received: dense_channels=-1"):
        config_lib.Config().replace(dense_channels=-1)
