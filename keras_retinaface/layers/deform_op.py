"""Deformable convolution as a function of tensors. Samples and multiplies tile by tile; holds no weights."""

from __future__ import annotations

import tensorflow as tf

SAMPLERS = ("gather", "sparse", "auto")

# Up to here tiles are laid out one after the other, which TFLite runs faster than a loop and stores smaller.
_MAX_UNROLLED_TILES = 64


def convolve(
    features: tf.Tensor,
    offsets: tf.Tensor,
    kernel: tf.Tensor,
    mask: tf.Tensor | None = None,
    *,
    strides: int = 1,
    dilation_rate: int = 1,
    padding: str | int = "same",
    tile: int = 4096,
    sampler: str = "gather",
) -> tf.Tensor:
    """Convolves features at sampling points that offsets move.

    Sampling is bilinear; outside the image everything is zero. The gradient samples again instead of keeping what was
    sampled. Positions are float32 for half-precision features, which cannot count the columns of a 4K image.

    Args:
        features: float `[B, H, W, C]`.
        offsets: float `[B, rows, columns, G * K * 2]`: group by group, tap by tap (row-major), (y, x), in pixels of
            `features`. The `G` groups share the channels evenly.
        kernel: `[height, width, C, filters]`; `K` is height times width.
        mask: `[B, rows, columns, G * K]`, factors of the samples (v2); None is 1 everywhere (v1).
        strides: pixels between neighbouring outputs.
        dilation_rate: pixels between neighbouring taps.
        padding: "same" or "valid" as Keras has them, or the number of zeros on every side.
        tile: output locations sampled at once; the peak of memory is a few times `tile * K * C` numbers.
        sampler: "gather" needs nothing but gathers and products, so it runs on accelerators and in TFLite; "sparse"
            multiplies with a sparse matrix, which is fastest on a CPU; "auto" is one of them by this machine's devices.

    Returns:
        `[B, rows, columns, filters]` in the dtype of `features`.

    Raises:
        ValueError: if a plain argument or a number of channels does not fit.

    Source: Dai et al., "Deformable Convolutional Networks", 2017; Zhu et al., "Deformable ConvNets v2", 2018.
    """
    features, offsets, kernel = (tf.convert_to_tensor(values) for values in (features, offsets, kernel))
    _check(offsets.shape, kernel.shape, tile, sampler)
    kernel = tf.cast(kernel, features.dtype)
    num_taps = kernel.shape[0] * kernel.shape[1]
    groups = offsets.shape[-1] // (2 * num_taps)
    channels, filters = kernel.shape[2:]
    dtype = tf.float64 if features.dtype == tf.float64 else tf.float32
    batch, height, width = _shape(features)[:3]
    rows, columns = _shape(offsets)[1:3]
    is_sparse = sampler == "sparse" or (sampler == "auto" and not _has_accelerator())
    if mask is None:
        mask = tf.ones([batch, rows, columns, groups * num_taps], dtype)
    before = [
        _padding_before(size, kernel.shape[axis], strides, dilation_rate, padding)
        for axis, size in enumerate((height, width))
    ]
    image, y, x = tf.meshgrid(tf.range(batch), tf.range(rows), tf.range(columns), indexing="ij")
    origin = tf.stack([image, y * strides - before[0], x * strides - before[1]], axis=-1)
    num_locations = batch * rows * columns
    tiles = _tiles(num_locations, tile)
    outputs = _convolve(
        # The sparse product knows no half precision.
        tf.cast(tf.reshape(features, [-1, channels // groups]), dtype if is_sparse else features.dtype),
        _cut(tf.reshape(tf.cast(offsets, dtype), [-1, groups, num_taps, 2]), num_locations, tiles),
        _cut(tf.reshape(tf.cast(mask, dtype), [-1, groups, num_taps]), num_locations, tiles),
        # Samples come group by group and tap by tap, and so must the rows of the kernel.
        tf.reshape(
            tf.transpose(tf.reshape(kernel, [num_taps, groups, channels // groups, filters]), [1, 0, 2, 3]),
            [num_taps * channels, filters],
        ),
        _cut(tf.reshape(origin, [-1, 3]), num_locations, tiles),
        tf.stack([height, width]),
        taps=_taps(kernel.shape[0], kernel.shape[1], dilation_rate),
        is_sparse=is_sparse,
    )
    return tf.reshape(tf.reshape(outputs, [-1, filters])[:num_locations], [batch, rows, columns, filters])


def _tiles(num_locations, tile):
    """Returns how many tiles there are and what each holds: equal parts, so that little is sampled in vain."""
    # Without any location there is one tile of none.
    num_tiles = -(-num_locations // tile)
    num_tiles = max(num_tiles, 1) if isinstance(num_tiles, int) else tf.maximum(num_tiles, 1)
    return num_tiles, -(-num_locations // num_tiles)


def _cut(values: tf.Tensor, num_locations, tiles) -> tf.Tensor:
    """Cuts `[num_locations, ...]` into `[num_tiles, locations of a tile, ...]`; zeros fill the last tile."""
    missing = tiles[0] * tiles[1] - num_locations
    if not (isinstance(missing, int) and missing == 0):
        values = tf.pad(values, [[0, missing]] + [[0, 0]] * (values.shape.rank - 1))
    return tf.reshape(values, [*tiles, *values.shape[1:]])


def _convolve(features, offsets, mask, kernel, origin, size, *, taps, is_sparse):
    """Returns `[num_tiles, locations of a tile, filters]`; memory of one tile at a time, forward and backward."""

    def corners(origin, offsets, mask, size):
        return _corners(tf.unstack(size), origin, tf.constant(taps, offsets.dtype), offsets, mask)

    # Whatever either pass reads is an argument: a SavedModel cannot store a gradient that captures tensors.
    @tf.custom_gradient
    def checkpointed(*inputs):
        outputs = _forward(*inputs, corners=corners, is_sparse=is_sparse)
        return outputs, lambda d_outputs: _backward(*inputs, d_outputs, corners=corners, is_sparse=is_sparse)

    return checkpointed(features, offsets, mask, kernel, origin, size)


def _forward(features, offsets, mask, kernel, origin, size, *, corners, is_sparse):
    def convolve_tile(i):
        index, weight = corners(origin[i], offsets[i], mask[i], size)
        return tf.matmul(_columns(features, index, weight, kernel, is_sparse), kernel)

    num_tiles = origin.shape[0]
    if num_tiles is not None and num_tiles <= _MAX_UNROLLED_TILES:
        outputs = []
        for i in range(num_tiles):
            # One after the other, or the executor would hold several tiles.
            with tf.control_dependencies(outputs[-1:]):
                outputs.append(convolve_tile(i))
        return tf.stack(outputs) if len(outputs) > 1 else outputs[0][None]
    return tf.map_fn(
        convolve_tile,
        tf.range(tf.shape(origin)[0]),
        fn_output_signature=tf.TensorSpec([origin.shape[1], kernel.shape[1]], kernel.dtype),
        parallel_iterations=1,
    )


def _backward(features, offsets, mask, kernel, origin, size, d_outputs, *, corners, is_sparse):
    """Returns the gradients of the six inputs, computing each tile anew."""

    def step(i, d_features, d_kernel, d_offsets, d_mask):
        offsets_i, mask_i = offsets[i], mask[i]
        with tf.GradientTape() as tape:
            tape.watch([offsets_i, mask_i])
            index, weight = corners(origin[i], offsets_i, mask_i, size)
        columns = _columns(features, index, weight, kernel, is_sparse)
        d_kernel += tf.cast(tf.matmul(columns, d_outputs[i], transpose_a=True), d_kernel.dtype)
        d_samples = tf.matmul(d_outputs[i], kernel, transpose_b=True)
        d_samples = tf.cast(tf.reshape(d_samples, [-1, features.shape[1]]), features.dtype)
        d_features += tf.cast(_spread(d_samples, index, weight, tf.shape(features)[0], is_sparse), d_features.dtype)
        d_offsets_i, d_mask_i = tape.gradient(
            weight,
            [offsets_i, mask_i],
            [tf.cast(_dots(features, rows, d_samples), offsets.dtype) for rows in index],
        )
        return i + 1, d_features, d_kernel, d_offsets.write(i, d_offsets_i), d_mask.write(i, d_mask_i)

    num_tiles = tf.shape(origin)[0]
    # Sums over tiles are kept in the dtype of positions: halves would lose small terms.
    state = (
        0,
        tf.zeros(tf.shape(features), offsets.dtype),
        tf.zeros(tf.shape(kernel), offsets.dtype),
        tf.TensorArray(offsets.dtype, num_tiles),
        tf.TensorArray(offsets.dtype, num_tiles),
    )
    _, d_features, d_kernel, d_offsets, d_mask = tf.while_loop(
        lambda i, *_: i < num_tiles, step, state, parallel_iterations=1
    )
    return (
        tf.cast(d_features, features.dtype),
        tf.reshape(d_offsets.stack(), tf.shape(offsets)),
        tf.reshape(d_mask.stack(), tf.shape(mask)),
        tf.cast(d_kernel, kernel.dtype),
        None,
        None,
    )


def _corners(size, origin, taps, offsets, mask):
    """Finds the four pixels around every sampling point.

    Args:
        size: (height, width) of the features.
        origin: int32 `[T, 3]`: image, and y and x of the tap at (0, 0).
        taps: `[K, 2]`, (y, x) from there.
        offsets: `[T, G, K, 2]`.
        mask: `[T, G, K]`.

    Returns:
        Two lists of four `[T, G, K]`: int32 rows of the flat features; and what each weighs, 0 outside the image.
        Gradients flow through the weights.
    """
    image = origin[:, None, None, 0]
    axes = []
    for axis in (0, 1):
        point = tf.cast(origin[:, None, None, 1 + axis], offsets.dtype) + taps[:, axis] + offsets[..., axis]
        # Clipped first: what lies far outside, or is not finite, has no integer. The weight still sees the true point.
        low = tf.floor(tf.clip_by_value(tf.stop_gradient(point), -2.0, tf.cast(size[axis], point.dtype) + 1.0))
        share = point - low
        axes.append(
            [
                _inside(tf.cast(low, tf.int32) + step, weight, size[axis])
                for step, weight in ((0, 1.0 - share), (1, share))
            ]
        )
    groups = offsets.shape[1]
    index, weight = [], []
    for y, y_weight in axes[0]:
        for x, x_weight in axes[1]:
            row = (image * size[0] + y) * size[1] + x
            index.append(row if groups == 1 else row * groups + tf.range(groups)[:, None])
            weight.append(y_weight * x_weight * mask)
    return index, weight


def _inside(pixel, weight, size):
    """Moves pixels outside `[0, size)` to its border, where they weigh nothing."""
    is_inside = (pixel >= 0) & (pixel < size)
    return tf.clip_by_value(pixel, 0, size - 1), tf.where(is_inside, weight, tf.zeros_like(weight))


def _columns(features, index, weight, kernel, is_sparse):
    """Samples `[T, G * K * C / G]`, ready for the product with the kernel."""
    if is_sparse:
        samples = tf.raw_ops.SparseMatrixMatMul(a=_sparse(index, weight, tf.shape(features)[0]), b=features)
    else:
        # Corner by corner: all four at once would be four times the memory, and slower.
        samples = tf.add_n(
            [tf.gather(features, rows) * tf.cast(w[..., None], features.dtype) for rows, w in zip(index, weight)]
        )
    return tf.cast(tf.reshape(samples, [-1, kernel.shape[0]]), kernel.dtype)


def _spread(d_samples, index, weight, num_rows, is_sparse):
    """Adds `[T * G * K, C / G]` back to the pixels that were sampled; the transpose of `_columns`."""
    if is_sparse:
        return tf.raw_ops.SparseMatrixMatMul(a=_sparse(index, weight, num_rows), b=d_samples, transpose_a=True)
    return tf.add_n(
        [
            tf.math.unsorted_segment_sum(
                d_samples * tf.cast(tf.reshape(w, [-1, 1]), d_samples.dtype), tf.reshape(rows, [-1]), num_rows
            )
            for rows, w in zip(index, weight)
        ]
    )


def _dots(features, rows, d_samples):
    """Products of the samples' gradient with the pixels in `rows`: the gradient of their weights, `[T, G, K]`."""
    products = tf.reduce_sum(tf.gather(features, tf.reshape(rows, [-1])) * d_samples, axis=-1)
    return tf.reshape(products, tf.shape(rows))


def _sparse(index, weight, num_columns):
    """Four entries a row, `[T * G * K, num_columns]`. A pixel that stands twice in a row counts twice."""
    column = tf.reshape(tf.stack(index, axis=-1), [-1])
    num_entries = tf.size(column)
    return tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=tf.cast(tf.stack([tf.range(num_entries) // 4, column], axis=-1), tf.int64),
        values=tf.reshape(tf.stack(weight, axis=-1), [-1]),
        dense_shape=tf.cast(tf.stack([num_entries // 4, num_columns]), tf.int64),
    )


def _taps(height, width, dilation_rate):
    return [[float(y * dilation_rate), float(x * dilation_rate)] for y in range(height) for x in range(width)]


def _padding_before(size, taps, strides, dilation_rate, padding):
    """Zeros above or left of the image, as Keras counts them."""
    if padding == "valid":
        return 0
    if padding != "same":
        return padding
    extent = (taps - 1) * dilation_rate + 1
    total = (-(-size // strides) - 1) * strides + extent - size
    return (max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)) // 2


def _shape(values):
    """Sizes as numbers where the graph knows them, so that everything that follows from them is constant."""
    dynamic = tf.shape(values)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(values.shape)]


def _has_accelerator():
    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def _check(offsets_shape, kernel_shape, tile, sampler):
    if sampler not in SAMPLERS:
        raise ValueError(f"`sampler` must be one of {SAMPLERS}. Received: sampler={sampler!r}")
    if tile < 1:
        raise ValueError(f"`tile` must be 1 or more. Received: tile={tile}")
    groups, rest = divmod(offsets_shape[-1], 2 * kernel_shape[0] * kernel_shape[1])
    if rest or not groups or kernel_shape[2] % groups:
        raise ValueError(
            "`offsets` must have two channels per group and tap, and the groups must share the channels evenly. "
            f"Received: offsets.shape={tuple(offsets_shape)}, kernel.shape={tuple(kernel_shape)}"
        )
