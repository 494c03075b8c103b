"""Layers on mesh vertices: Chebyshev graph convolution, and resampling between the levels of a mesh."""

from __future__ import annotations

import keras
import numpy as np
import scipy.sparse
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_retinaface")
class ChebConv(keras.layers.Layer):
    """Filters a signal on vertices by a truncated Chebyshev series of the scaled Laplacian.

    `y = sum_k T_k(L - I) x theta_k + bias`, with `T_0 = 1`, `T_1(s) = s`, `T_k(s) = 2 s T_{k-1}(s) - T_{k-2}(s)`. The
    eigenvalues of a normalised Laplacian lie in [0, 2], so `L - I` needs no further scaling to lie in [-1, 1].

    Args:
        filters: output channels.
        order: terms of the series, K; 1 sees only the vertex itself, each more one ring farther.
        laplacian: normalised Laplacian `[V, V]` as a SciPy sparse matrix, or its entry in a config.
        **kwargs: of every layer.

    Input and output: float `[B, V, C]`, `[B, V, filters]`. Computed in float32 under any policy.

    Source: Defferrard et al. (2016), arXiv 1606.09375.
    """

    def __init__(self, filters: int, order: int, laplacian, **kwargs):
        super().__init__(**kwargs)
        if filters < 1 or order < 1:
            raise ValueError(f"`filters` and `order` must be 1 or more. Received: filters={filters}, order={order}")
        self.filters = filters
        self.order = order
        self.laplacian = _matrix(laplacian)
        if self.laplacian.shape[0] != self.laplacian.shape[1]:
            raise ValueError(f"`laplacian` must be square. Received: shape={self.laplacian.shape}")
        identity = scipy.sparse.identity(self.laplacian.shape[0], dtype=np.float32)
        self._scaled = (self.laplacian - identity).tocoo()

    def build(self, input_shape):
        """Makes `order` kernels of `[C, filters]`."""
        if input_shape[1] != self._scaled.shape[0]:
            raise ValueError(
                f"`laplacian` must have a row for each input vertex. Received: input_shape={tuple(input_shape)}, "
                f"laplacian of shape {self._scaled.shape}"
            )
        self.kernel = self.add_weight(
            name="kernel", shape=(self.order, input_shape[-1], self.filters), initializer=_initial_kernel
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.built = True

    def call(self, inputs):
        """Applies the series to a batch."""
        return tf.cast(_swap(self.vertex_major(_swap(tf.cast(inputs, tf.float32)))), self.compute_dtype)

    def vertex_major(self, signal):
        """Does the same on float32 `[V, B, C]`, for networks that keep to that layout throughout."""
        kernel = tf.cast(self.kernel, tf.float32)
        # The recurrence runs on whichever side of the kernels has fewer channels.
        filtered = self._clenshaw(signal, kernel) if self.filters < signal.shape[-1] else self._forward(signal, kernel)
        return filtered + tf.cast(self.bias, tf.float32)

    def _forward(self, signal, kernel):
        terms = [signal]
        if self.order > 1:
            terms.append(_multiply(self._scaled, signal))
        while len(terms) < self.order:
            terms.append(2 * _multiply(self._scaled, terms[-1]) - terms[-2])
        stacked = tf.concat(terms, -1)  # [V, B, K * C]
        return tf.tensordot(stacked, tf.reshape(kernel, (-1, self.filters)), 1)

    def _clenshaw(self, signal, kernel):
        # The same sum from its far end: b_k = x theta_k + 2 L~ b_{k+1} - b_{k+2}, y = x theta_0 + L~ b_1 - b_2.
        flat = tf.tensordot(signal, tf.reshape(tf.transpose(kernel, (1, 0, 2)), (signal.shape[-1], -1)), 1)
        parts = tf.split(flat, self.order, -1)
        following = after_next = None
        for part in parts[:0:-1]:
            current = part if following is None else part + 2 * _multiply(self._scaled, following)
            if after_next is not None:
                current -= after_next
            following, after_next = current, following
        result = parts[0] if following is None else parts[0] + _multiply(self._scaled, following)
        return result if after_next is None else result - after_next

    def compute_output_shape(self, input_shape):
        """Returns `[B, V, filters]`."""
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        """Returns plain values; the Laplacian as its entries."""
        own = {"filters": self.filters, "order": self.order, "laplacian": _entries(self.laplacian)}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_retinaface")
class MeshResample(keras.layers.Layer):
    """Carries a signal from one level of a mesh to another by a fixed sparse matrix.

    Args:
        matrix: `[V', V]` as a SciPy sparse matrix, or its entry in a config.
        **kwargs: of every layer.

    Input and output: float `[B, V, C]`, `[B, V', C]`.
    """

    def __init__(self, matrix, **kwargs):
        super().__init__(**kwargs)
        self.matrix = _matrix(matrix)

    def call(self, inputs):
        """Multiplies every channel of every mesh by the matrix."""
        return tf.cast(_swap(self.vertex_major(_swap(tf.cast(inputs, tf.float32)))), self.compute_dtype)

    def vertex_major(self, signal):
        """Does the same on float32 `[V, B, C]`."""
        return _multiply(self.matrix.tocoo(), signal)

    def compute_output_shape(self, input_shape):
        """Returns `[B, V', C]`."""
        return (input_shape[0], self.matrix.shape[0], input_shape[2])

    def get_config(self):
        """Returns plain values; the matrix as its entries."""
        return {**super().get_config(), "matrix": _entries(self.matrix)}


def _swap(signal):
    """Turns `[B, V, C]` into `[V, B, C]` and back."""
    return tf.transpose(signal, (1, 0, 2))


def _multiply(matrix, signal):
    """Multiplies a COO matrix `[V', V]` by `[V, B, C]`, as one product with `[V, B * C]`: long rows are fast."""
    indices = np.stack([matrix.row, matrix.col], 1).astype(np.int64)
    sparse = tf.SparseTensor(indices, matrix.data.astype(np.float32), matrix.shape)
    batch, channels = tf.shape(signal)[1], signal.shape[-1]
    flat = tf.reshape(signal, (matrix.shape[1], batch * channels))
    return tf.reshape(tf.sparse.sparse_dense_matmul(sparse, flat), (matrix.shape[0], batch, channels))


def _initial_kernel(shape, dtype=None):
    """He-uniform over all terms: the sum over k adds up K * C inputs."""
    limit = (6 / (shape[0] * shape[1])) ** 0.5
    return keras.initializers.RandomUniform(-limit, limit)(shape, dtype=dtype)


def _matrix(value):
    if isinstance(value, dict):
        # Keras 3 may hand lists back as tuples.
        entries = (np.array(value["values"], np.float32), (np.array(value["rows"]), np.array(value["columns"])))
        return scipy.sparse.csr_matrix(entries, shape=tuple(value["shape"]))
    return scipy.sparse.csr_matrix(value, dtype=np.float32)


def _entries(matrix):
    matrix = matrix.tocoo()
    return {
        "shape": [int(side) for side in matrix.shape],
        "rows": matrix.row.tolist(),
        "columns": matrix.col.tolist(),
        "values": matrix.data.tolist(),
    }
