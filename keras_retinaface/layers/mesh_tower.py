"""The dense head's own tower: what a mesh needs to know that boxes and points do not, foremost colour and light.

The paper's dense head is a 1x1 convolution on the context features alone. A frozen detector's features hardly hold
colour, for faces are faces in any light: a linear head on them leaves 96 % of the mean face's photometric error. So the
tower, our choice, also sees the image itself, averaged to cells of half the level's stride.
"""

from __future__ import annotations

import keras
import tensorflow as tf

# Cells on a stride, cells that a location's numbers depend on, and how far to either side they do on context features.
CELLS, WINDOW, REACH = 2, 18, 2
# Brings pixels to about unit variance.
PIXEL_SCALE = 1 / 64


@keras.saving.register_keras_serializable(package="keras_retinaface")
class CellMeans(keras.layers.Layer):
    """Averages squares of pixels from the left top corner on, so that cells lie under the anchors whatever the size.

    Args:
        size: side of a square; what is missing from the last ones counts as zero.
        **kwargs: of every layer.

    Input: `[B, H, W, C]`, the mean subtracted. Output: `[B, ceil(H / size), ceil(W / size), C]`, over 64.
    """

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = int(size)

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """Averages."""
        shape = tf.shape(image)
        image = tf.pad(image, [[0, 0], [0, -shape[1] % self.size], [0, -shape[2] % self.size], [0, 0]])
        return tf.nn.avg_pool2d(image, self.size, self.size, "VALID") * PIXEL_SCALE

    def compute_output_shape(self, input_shape):
        """Returns the input's shape with its sides over the size."""
        batch, height, width, channels = input_shape
        height, width = (None if side is None else -(-side // self.size) for side in (height, width))
        return (batch, height, width, channels)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size}


def tower(cells, context, channels: int, *, name: str, padding: str = "same"):
    """Builds the tower of one level.

    Args:
        cells: `[B, 2H, 2W, 3]` (a row or column less where a side is odd), as from `CellMeans` of half a stride.
        context: `[B, H, W, C]`, context features of the level.
        channels: number of channels of every layer.
        name: name of the level, `P4`.
        padding: "same", or "valid" for single windows: `[B, WINDOW, WINDOW, 3]` and `[B, 2 REACH + 1, .., C]` give
            `[B, 1, 1, channels]`, the numbers that "same" gives there, but for the image's border.

    Returns:
        `[B, H, W, channels]`, for the dense head's 1x1 convolution.
    """

    def convolve(x, size, number, **kwargs):
        kwargs = {"padding": padding, "activation": "relu", "name": f"dense_tower{number}_{name}", **kwargs}
        return keras.layers.Conv2D(channels, size, **kwargs)(x)

    # Kernels of two cells and stride two keep cells and locations in step; three would shift with the side's parity.
    x = convolve(cells, 2, 1, strides=2, padding="same")
    x = convolve(x, 3, 2)
    x = convolve(x, 3, 3)
    x = keras.layers.Concatenate(name=f"dense_join_{name}")([x, context])
    x = convolve(x, 3, 4)
    x = convolve(x, 3, 5)
    return convolve(x, 1, 6)


def build(image, levels: dict, channels: int) -> dict:
    """Builds the towers of all levels.

    Args:
        image: `[B, H, W, 3]`, the mean subtracted.
        levels: context features by level, `P3` and so on.
        channels: number of channels of the towers.

    Returns:
        `[B, H, W, channels]` by level.
    """
    maps = {}
    for name, context in levels.items():
        cells = CellMeans(2 ** int(name[1:]) // CELLS, name=f"dense_cells_{name}")(image)
        maps[name] = tower(cells, context, channels, name=name)
    return maps


def window_model(channels: int, context_channels: int, num_outputs: int, *, name: str) -> keras.Model:
    """Builds tower and head of a level for single windows; layers are called as in the whole model.

    Args:
        channels: number of channels of the tower.
        context_channels: number of channels of the context features.
        num_outputs: numbers that the head gives a location: `mesh_code.SIZE` for every anchor there.
        name: name of the level.

    Returns:
        A model from `[cells, context]`, see `tower`, to `[B, num_outputs]`.
    """
    cells = keras.Input((WINDOW, WINDOW, 3))
    context = keras.Input((2 * REACH + 1, 2 * REACH + 1, context_channels))
    x = tower(cells, context, channels, name=name, padding="valid")
    x = keras.layers.Conv2D(num_outputs, 1, kernel_initializer="zeros", name=f"dense_{name}")(x)
    return keras.Model([cells, context], keras.layers.Reshape((num_outputs,))(x))
