import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.layers import deform_op

ROOT = pathlib.Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "testdata" / "deform_conv.npz"
CASES = ("v1", "v2", "stride", "dilation", "groups", "valid_1x3", "far")
INPUTS = ("features", "offsets", "kernel", "mask")


def _integers(*shape):
    # Small integers: every sum is exact in float32, whatever its order, so equal means equal.
    return np.random.default_rng(3).integers(-4, 5, shape).astype(np.float32)


def _zero_offsets(batch, rows, columns, taps=9):
    return np.zeros((batch, rows, columns, 2 * taps), np.float32)


@pytest.mark.parametrize("sampler", ["gather", "sparse"])
@pytest.mark.parametrize("tile", [4096, 10])  # one tile, and several with a filled last one
@pytest.mark.parametrize("case", CASES)
def test_torchvision_gives_the_same_outputs_and_gradients(case, tile, sampler):
    with np.load(GOLDEN) as archive:
        golden = {name.split("/")[1]: archive[name] for name in archive.files if name.startswith(f"{case}/")}
    strides, padding, dilation_rate = (int(value) for value in golden["settings"])
    inputs = [tf.constant(golden[name]) for name in INPUTS if name in golden]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = deform_op.convolve(
            *inputs, strides=strides, padding=padding, dilation_rate=dilation_rate, tile=tile, sampler=sampler
        )
    np.testing.assert_allclose(outputs, golden["outputs"], atol=1e-4)
    gradients = tape.gradient(outputs, inputs, golden["d_outputs"])
    for name, gradient in zip(INPUTS, gradients):
        np.testing.assert_allclose(gradient, golden[f"d_{name}"], atol=1e-4, err_msg=name)


def test_one_sample_between_four_pixels_by_hand():
    features = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32).reshape(1, 2, 2, 1)
    offsets = np.zeros((1, 2, 2, 2), np.float32)
    offsets[0, 0, 0] = (0.25, 0.5)  # (y, x)
    offsets[0, 1, 1] = (0.25, 0.0)
    outputs = deform_op.convolve(features, offsets, np.full((1, 1, 1, 1), 10.0, np.float32))[0, ..., 0]
    # 0.75 * (1 + 2) / 2 + 0.25 * (3 + 4) / 2 = 2; below the last row everything is zero: 0.75 * 4 = 3.
    np.testing.assert_array_equal(outputs, [[20.0, 20.0], [30.0, 30.0]])


@pytest.mark.parametrize("sampler", ["gather", "sparse"])
@pytest.mark.parametrize(
    ("strides", "dilation_rate", "padding"), [(1, 1, "same"), (2, 1, "same"), (1, 2, "same"), (2, 1, "valid")]
)
def test_zero_offsets_are_the_ordinary_convolution(strides, dilation_rate, padding, sampler):
    features, kernel = _integers(2, 8, 9, 3), _integers(3, 3, 3, 4)
    wanted = tf.nn.conv2d(features, kernel, strides, padding.upper(), dilations=dilation_rate)
    outputs = deform_op.convolve(
        features,
        _zero_offsets(*wanted.shape[:3]),
        kernel,
        strides=strides,
        dilation_rate=dilation_rate,
        padding=padding,
        sampler=sampler,
    )
    np.testing.assert_array_equal(outputs, wanted)


def test_constant_integer_offset_is_the_shifted_convolution():
    features, kernel = _integers(1, 9, 10, 2), _integers(3, 3, 2, 3)
    offsets = _zero_offsets(1, 9, 10)
    offsets[..., 0::2], offsets[..., 1::2] = 2, -1
    shifted = tf.pad(features, [[0, 0], [0, 2], [1, 0], [0, 0]])[:, 2:, :-1]
    np.testing.assert_array_equal(
        deform_op.convolve(features, offsets, kernel)[:, 1:-3, 2:-1],
        tf.nn.conv2d(shifted, kernel, 1, "SAME")[:, 1:-3, 2:-1],
    )


def test_gradients_are_finite_differences():
    random = np.random.default_rng(1)
    # Away from whole pixels, where the bilinear weights have a kink.
    offsets = random.integers(-1, 2, (1, 3, 4, 12)) + random.uniform(0.1, 0.9, (1, 3, 4, 12))
    inputs = [
        random.normal(size=(1, 3, 4, 4)),
        offsets,
        random.normal(size=(1, 3, 4, 2)),
        random.uniform(size=(1, 3, 4, 6)),
    ]
    weight = random.normal(size=(1, 3, 4, 2))

    @tf.function(autograph=False)
    def loss(*values):
        return tf.reduce_sum(weight * deform_op.convolve(*values, tile=7))

    theoretical, numerical = tf.test.compute_gradient(loss, [tf.constant(value) for value in inputs], delta=1e-6)
    for name, ours, wanted in zip(INPUTS, theoretical, numerical):
        np.testing.assert_allclose(ours, wanted, atol=1e-6, err_msg=name)


def test_any_size_in_one_trace():
    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None, None, None, 18])], autograph=False
    )
    def convolve(features, offsets):
        with tf.GradientTape() as tape:
            tape.watch(offsets)
            outputs = deform_op.convolve(features, offsets, kernel, tile=16)
        return outputs, tape.gradient(outputs, offsets)

    kernel = _integers(3, 3, 2, 2)
    for batch, height, width in ((1, 3, 11), (3, 8, 2), (0, 4, 4)):
        features, offsets = _integers(batch, height, width, 2), _zero_offsets(batch, height, width)
        outputs, gradient = convolve(features, offsets)
        np.testing.assert_array_equal(outputs, tf.nn.conv2d(features, kernel, 1, "SAME"))
        assert gradient.shape == offsets.shape
    assert convolve.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("tile", [4096, 1])  # one tile, and more than are laid out one by one
def test_xla_compiles_both_passes(tile):
    def step(features, offsets, kernel):
        with tf.GradientTape() as tape:
            tape.watch([features, offsets, kernel])
            outputs = deform_op.convolve(features, offsets, kernel, tile=tile)
        return outputs, *tape.gradient(outputs, [features, offsets, kernel])

    random = np.random.default_rng(6)
    inputs = [
        tf.constant(random.normal(size=shape), tf.float32) for shape in ((1, 9, 10, 2), (1, 9, 10, 18), (3, 3, 2, 3))
    ]
    for ours, wanted in zip(tf.function(step, autograph=False, jit_compile=True)(*inputs), step(*inputs)):
        np.testing.assert_allclose(ours, wanted, atol=1e-4)


@pytest.mark.parametrize("sampler", ["gather", "sparse"])
def test_offsets_that_are_far_or_not_finite_touch_no_other_location(sampler):
    features, kernel = _integers(1, 4, 6, 2), _integers(3, 3, 2, 3)
    offsets = _zero_offsets(1, 4, 6)
    offsets[0, 0, 0], offsets[0, 0, 1] = 1e30, -3e9
    outputs = deform_op.convolve(features, offsets, kernel, sampler=sampler).numpy()
    np.testing.assert_array_equal(outputs[0, 0, :2], 0)
    np.testing.assert_array_equal(outputs[0, 1:], tf.nn.conv2d(features, kernel, 1, "SAME")[0, 1:])
    offsets[0, 0, 0] = np.nan
    outputs = deform_op.convolve(features, offsets, kernel, sampler=sampler).numpy()
    np.testing.assert_array_equal(outputs[0, 1:], tf.nn.conv2d(features, kernel, 1, "SAME")[0, 1:])


@pytest.mark.parametrize("sampler", ["gather", "sparse"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_near_single(dtype, sampler):
    random = np.random.default_rng(5)
    features = random.normal(size=(1, 6, 700, 4)).astype(np.float32)
    kernel = random.normal(size=(3, 3, 4, 4)).astype(np.float32) / 6
    offsets = random.uniform(-1, 1, (1, 6, 700, 18)).astype(np.float32)
    halves = [tf.cast(values, dtype) for values in (features, kernel)]
    with tf.GradientTape() as tape:
        tape.watch(halves)
        outputs = deform_op.convolve(halves[0], offsets, halves[1], sampler=sampler)
    assert outputs.dtype == dtype
    assert [gradient.dtype for gradient in tape.gradient(outputs, halves)] == [dtype, dtype]
    wanted = deform_op.convolve(features, offsets, kernel)
    # Column 700 in a bfloat16 would be off by two pixels, and the result by about 1.
    tolerance = 0.01 if dtype == "float16" else 0.06
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), wanted, atol=tolerance)


# A process of its own, because a peak never falls.
_MEASURE_PEAK = """
import resource, sys
import tensorflow as tf
from keras_retinaface.layers import deform_op

def step(features, offsets):
    with tf.GradientTape() as tape:
        tape.watch([features, offsets])
        outputs = deform_op.convolve(features, offsets, kernel, tile=1024, sampler=sys.argv[1])
    return tape.gradient(outputs, [features, offsets])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

kernel, step = tf.random.normal([3, 3, 256, 32]), tf.function(step, autograph=False)
step(tf.random.normal([1, 8, 8, 256]), tf.zeros([1, 8, 8, 18]))
inputs = tf.random.normal([1, 160, 160, 256]), tf.random.uniform([1, 160, 160, 18], -3, 3)
before = peak()
step(*inputs)
print(peak() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize("sampler", ["gather", "sparse"])
def test_memory_is_bounded_by_the_tile(sampler):
    process = subprocess.run(
        [sys.executable, "-c", _MEASURE_PEAK, sampler],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    )
    # The columns of all locations, 160 * 160 * 9 * 256 numbers, and their gradient would be 450 MiB; with one tile
    # for everything the call takes 750 and more.
    assert float(process.stdout) < 2 * 160 * 160 * 9 * 256 * 4 / 2**20


def test_errors_name_the_argument():
    features, kernel = _integers(1, 4, 4, 4), _integers(3, 3, 4, 2)
    with pytest.raises(ValueError, match="`sampler` must be one of .*Received: sampler='cubic'"):
        deform_op.convolve(features, _zero_offsets(1, 4, 4), kernel, sampler="cubic")
    with pytest.raises(ValueError, match="`tile` must be 1 or more. Received: tile=0"):
        deform_op.convolve(features, _zero_offsets(1, 4, 4), kernel, tile=0)
    with pytest.raises(ValueError, match="`offsets` must have two channels per group and tap"):
        deform_op.convolve(features, _zero_offsets(1, 4, 4, taps=8), kernel)
