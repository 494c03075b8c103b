"""The mesh decoder, code -> coloured mesh, and the encoder that it is pretrained with."""

from __future__ import annotations

import hashlib
import io
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_retinaface.formats import npz_file
from keras_retinaface.geometry import mesh_code
from keras_retinaface.mesh import chebyshev, face_model

ASSET = pathlib.Path(__file__).resolve().parent.parent / "assets" / "mesh_decoder.npz"
# Of the shipped file; assets/README.md has the same line.
CHECKSUM = "5f466ec9a86617b6c4f01fc023c0b365f2065cc5217312a2467ab0d190155d4e"
CODE_SIZE = mesh_code.CODE_SIZE
# Filters from the finest level to the coarsest.
FILTERS = (16, 16, 16, 32)
ORDER = 4
# Inside the networks vertices and colours are offsets from the mean in these units, centimetres and 0..1: about their
# standard deviation, so that both losses and all channels weigh the same.
SHAPE_SCALE = 0.4
COLOUR_SCALE = 0.18


@keras.saving.register_keras_serializable(package="keras_retinaface")
class MeshDecoder(keras.layers.Layer):
    """Turns a code into a face: Dense -> 4 x (up-sample, ChebConv, ReLU) -> ChebConv to 6 channels -> + mean mesh.

    Args:
        code_size: length of the code.
        filters: numbers of filters of the four levels, finest first.
        order: terms of every Chebyshev series.
        face: the face model whose levels it runs on; the shipped one if missing.
        **kwargs: of every layer.

    Input: float32 `[B, code_size]`; zero is the mean face, and codes of sampled faces have about unit variance.
    Output: float32 `[B, V, 6]`: vertices in centimetres, then albedo, sRGB, about 0..1 but not clipped.
    """

    def __init__(
        self,
        code_size: int = CODE_SIZE,
        *,
        filters: tuple[int, ...] = FILTERS,
        order: int = ORDER,
        face: face_model.FaceModel | None = None,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.code_size = code_size
        self.filters = tuple(filters)
        self.order = order
        self.face = face or face_model.load()
        levels = self.face.levels
        coarsest = levels[-1].laplacian.shape[0]
        self.dense = keras.layers.Dense(coarsest * filters[-1], dtype="float32", name="dense")
        self.unflatten = keras.layers.Reshape((coarsest, filters[-1]), dtype="float32")
        self.ups, self.convolutions = [], []
        for number in reversed(range(len(filters))):
            self.ups.append(chebyshev.MeshResample(levels[number].up, dtype="float32"))
            self.convolutions.append(
                chebyshev.ChebConv(
                    filters[number], order, levels[number].laplacian, dtype="float32", name=f"conv{number}"
                )
            )
        self.last = chebyshev.ChebConv(6, order, levels[0].laplacian, dtype="float32", name="last")

    def build(self, input_shape):
        """Builds every layer, and the mean mesh that their result is added to."""
        self.dense.build((None, self.code_size))
        channels = self.filters[-1]
        for up, convolution in zip(self.ups, self.convolutions):
            up.build((None, up.matrix.shape[1], channels))
            convolution.build((None, up.matrix.shape[0], channels))
            channels = convolution.filters
        self.last.build((None, self.face.num_vertices, channels))
        self.mean = self.add_weight(
            name="mean", shape=(self.face.num_vertices, 6), initializer="zeros", trainable=False
        )
        self.built = True

    def call(self, code):
        """Decodes a batch."""
        # Vertices come first until the end: turning the axes around in every layer would take much of the time.
        signal = tf.transpose(self.unflatten(self.dense(code)), (1, 0, 2))  # [V, B, C]
        for up, convolution in zip(self.ups, self.convolutions):
            signal = tf.nn.relu(convolution.vertex_major(up.vertex_major(signal)))
        offset = tf.transpose(self.last.vertex_major(signal), (1, 0, 2))
        return self.mean + offset * tf.constant([SHAPE_SCALE] * 3 + [COLOUR_SCALE] * 3)

    def compute_output_shape(self, input_shape):
        """Returns `[B, V, 6]`."""
        return (input_shape[0], self.face.num_vertices, 6)

    def get_config(self):
        """Returns plain values; the face model is the shipped one."""
        own = {"code_size": self.code_size, "filters": list(self.filters), "order": self.order}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_retinaface")
class MeshEncoder(keras.layers.Layer):
    """The mirror image of `MeshDecoder`: 4 x (ChebConv, ReLU, down-sample) -> Dense. Used in pretraining only.

    Args:
        code_size: length of the code.
        filters: numbers of filters of the four levels, finest first.
        order: terms of every Chebyshev series.
        face: the face model whose levels it runs on; the shipped one if missing.
        **kwargs: of every layer.

    Input: float32 `[B, V, 6]`. Output: float32 `[B, code_size]`.
    """

    def __init__(
        self,
        code_size: int = CODE_SIZE,
        *,
        filters: tuple[int, ...] = FILTERS,
        order: int = ORDER,
        face: face_model.FaceModel | None = None,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.code_size = code_size
        self.filters = tuple(filters)
        self.order = order
        self.face = face or face_model.load()
        self.convolutions, self.downs = [], []
        for number, level in enumerate(self.face.levels[: len(filters)]):
            self.convolutions.append(
                chebyshev.ChebConv(filters[number], order, level.laplacian, dtype="float32", name=f"conv{number}")
            )
            self.downs.append(chebyshev.MeshResample(level.down, dtype="float32"))
        self.flatten = keras.layers.Flatten(dtype="float32")
        self.dense = keras.layers.Dense(code_size, dtype="float32", name="dense")

    def build(self, input_shape):
        """Builds every layer, and the mean mesh that is taken off the input."""
        channels = 6
        for down, convolution in zip(self.downs, self.convolutions):
            convolution.build((None, down.matrix.shape[1], channels))
            channels = convolution.filters
            down.build((None, down.matrix.shape[1], channels))
        self.dense.build((None, self.downs[-1].matrix.shape[0] * channels))
        self.mean = self.add_weight(
            name="mean", shape=(self.face.num_vertices, 6), initializer="zeros", trainable=False
        )
        self.built = True

    def call(self, mesh):
        """Encodes a batch."""
        signal = (mesh - self.mean) / tf.constant([SHAPE_SCALE] * 3 + [COLOUR_SCALE] * 3)
        for down, convolution in zip(self.downs, self.convolutions):
            signal = down(tf.nn.relu(convolution(signal)))
        return self.dense(self.flatten(signal))

    def compute_output_shape(self, input_shape):
        """Returns `[B, code_size]`."""
        return (input_shape[0], self.code_size)

    def get_config(self):
        """Returns plain values; the face model is the shipped one."""
        own = {"code_size": self.code_size, "filters": list(self.filters), "order": self.order}
        return {**super().get_config(), **own}


def named_weights(layer: keras.layers.Layer, prefix: str) -> dict:
    """Returns the weights of a `MeshDecoder` or `MeshEncoder` by stable names, the same under Keras 2 and 3."""
    weights = {f"{prefix}/mean": layer.mean}
    parts = {"dense": layer.dense, **{part.name: part for part in layer.convolutions}}
    if hasattr(layer, "last"):
        parts["last"] = layer.last
    for name, part in parts.items():
        weights[f"{prefix}/{name}/kernel"] = part.kernel
        weights[f"{prefix}/{name}/bias"] = part.bias
    return weights


def save_weights(path: pathlib.Path | str, decoder: MeshDecoder, encoder: MeshEncoder) -> str:
    """Writes both networks' weights as `.npz` and returns the file's sha256."""
    weights = {**named_weights(decoder, "decoder"), **named_weights(encoder, "encoder")}
    np.savez_compressed(path, **{name: np.asarray(weight).astype(np.float32) for name, weight in weights.items()})
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def load_weights(layer: keras.layers.Layer, prefix: str, path: pathlib.Path | str = ASSET) -> None:
    """Fills a built network from a file of `save_weights`; the shipped file is checked against its checksum.

    Args:
        layer: a built `MeshDecoder` or `MeshEncoder`.
        prefix: `"decoder"` or `"encoder"`.
        path: the `.npz` file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the checksum, a name or a shape is not what it should be; nothing is loaded then.
    """
    content = pathlib.Path(path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if pathlib.Path(path) == ASSET and found != CHECKSUM:
        raise ValueError(f"{path}: expected sha256 {CHECKSUM}. Received: {found}")
    arrays = npz_file.read_open(io.BytesIO(content), str(path))
    values = {name: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}
    weights = named_weights(layer, prefix)
    if set(values) != set(weights):
        raise ValueError(f"{path}: these weights do not fit by name: {sorted(set(values) ^ set(weights))}")
    for name, weight in weights.items():
        if tuple(weight.shape) != values[name].shape:
            raise ValueError(f"{path}: {name} has shape {values[name].shape}. Expected: {tuple(weight.shape)}")
    for name, weight in weights.items():
        weight.assign(values[name])


def pretrained() -> MeshDecoder:
    """Returns a decoder with the shipped weights."""
    decoder = MeshDecoder()
    decoder.build((None, CODE_SIZE))
    load_weights(decoder, "decoder")
    return decoder
