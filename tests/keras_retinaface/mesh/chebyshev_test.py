import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from keras_retinaface.mesh import chebyshev, face_model


def random_laplacian(num_vertices, seed=0):
    rng = np.random.default_rng(seed)
    adjacency = np.triu(rng.random((num_vertices, num_vertices)) < 0.3, 1)
    adjacency[np.arange(num_vertices - 1), np.arange(1, num_vertices)] = True
    return scipy.sparse.csgraph.laplacian((adjacency | adjacency.T).astype(float), normed=True)


def make(filters, order, laplacian, channels):
    layer = chebyshev.ChebConv(filters, order, laplacian)
    layer.build((None, laplacian.shape[0], channels))
    layer.bias.assign(np.linspace(-1, 1, filters))
    return layer


def test_path_of_three_vertices():
    # A path has degrees 1, 2, 1: L - I holds -1 / sqrt(2) between neighbours; T_2 = 2 (L - I)^2 - 1.
    laplacian = scipy.sparse.csgraph.laplacian(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], float), normed=True)
    layer = chebyshev.ChebConv(1, 3, laplacian)
    layer.build((None, 3, 1))
    layer.kernel.assign([[[1.0]], [[10.0]], [[100.0]]])
    out = np.ravel(layer(np.array([[[1.0], [0.0], [0.0]]], np.float32)))
    # Of (1, 0, 0): T_0 gives itself, T_1 gives (0, -0.7071, 0), T_2 gives 2 (0.5, 0, 0.5) - (1, 0, 0) = (0, 0, 1).
    np.testing.assert_allclose(out, [1, -7.0711, 100], rtol=1e-4)


# More filters than channels takes the recurrence, fewer the Clenshaw sum.
@pytest.mark.parametrize("channels, filters", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_equals_the_dense_and_the_spectral_definition(channels, filters, order):
    laplacian = random_laplacian(12)
    layer = make(filters, order, laplacian, channels)
    x = np.random.default_rng(1).standard_normal((2, 12, channels))
    kernel, bias = np.asarray(layer.kernel, np.float64), np.asarray(layer.bias)
    scaled = laplacian - np.eye(12)
    terms = [np.eye(12), scaled]
    while len(terms) < order:
        terms.append(2 * scaled @ terms[-1] - terms[-2])
    dense = sum(np.einsum("vw,bwc,cf->bvf", t, x, k) for t, k in zip(terms, kernel)) + bias
    np.testing.assert_allclose(layer(x.astype(np.float32)), dense, atol=1e-5)
    # A filter multiplies the k-th mode of the graph by sum_k theta_k cos(k arccos(eigenvalue - 1)).
    values, modes = np.linalg.eigh(laplacian)
    angles = np.arccos(np.clip(values - 1, -1, 1))
    response = sum(np.cos(k * angles)[:, None, None] * theta for k, theta in enumerate(kernel))  # [modes, C, F]
    spectral = np.einsum("vm,mcf,wm,bwc->bvf", modes, response, modes, x) + bias
    np.testing.assert_allclose(layer(x.astype(np.float32)), spectral, atol=1e-5)


def test_order_is_the_reach():
    path = scipy.sparse.csgraph.laplacian(np.eye(12, k=1) + np.eye(12, k=-1), normed=True)
    layer = make(2, 3, path, 1)
    x = np.zeros((1, 12, 1), np.float32)
    x[0, 5] = 1
    changed = np.abs(np.asarray(layer(x) - layer(0 * x))).sum((0, 2)) > 1e-6
    np.testing.assert_array_equal(np.flatnonzero(changed), [3, 4, 5, 6, 7])


def test_gradients_equal_finite_differences():
    layer = make(2, 4, random_laplacian(8), 3)
    x = tf.constant(np.random.default_rng(2).standard_normal((2, 8, 3)), tf.float32)
    theory, numeric = tf.test.compute_gradient(lambda x: layer(x), [x], delta=1e-2)
    np.testing.assert_allclose(theory[0], numeric[0], atol=1e-3)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_round_trip_and_save(tmp_path, policy):
    level = face_model.load().levels[2]
    inputs = keras.Input((level.laplacian.shape[0], 3))
    hidden = chebyshev.ChebConv(4, 2, level.laplacian, dtype=policy)(inputs)
    model = keras.Model(inputs, chebyshev.MeshResample(level.down, dtype=policy)(hidden))
    x = np.random.default_rng(0).standard_normal((2, level.laplacian.shape[0], 3)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x), model(x))
    assert model(x).dtype == ("float16" if policy == "mixed_float16" else "float32")


def test_resample_multiplies_each_mesh():
    level = face_model.load().levels[0]
    x = np.random.default_rng(0).standard_normal((3, level.up.shape[1], 2)).astype(np.float32)
    expected = np.stack([level.up @ mesh for mesh in x])
    np.testing.assert_allclose(chebyshev.MeshResample(level.up)(x), expected, atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="`filters` and `order` must be 1 or more. Received: filters=3, order=0"):
        chebyshev.ChebConv(3, 0, np.eye(2))
    with pytest.raises(ValueError, match="`laplacian` must be square"):
        chebyshev.ChebConv(3, 2, np.ones((2, 3)))
    with pytest.raises(ValueError, match="a row for each input vertex"):
        chebyshev.ChebConv(3, 2, np.eye(2)).build((None, 5, 1))
