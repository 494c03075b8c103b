"""The deformable convolution layer, v1 and modulated v2. The arithmetic is in `deform_op`."""

from __future__ import annotations

import contextlib

import keras
import tensorflow as tf

from keras_retinaface.layers import deform_op


def scale_gradient(values: tf.Tensor, factor: float) -> tf.Tensor:
    """Returns the values as they are and multiplies their gradient, which is a learning rate of their own under SGD."""

    @tf.custom_gradient
    def scaled(values):
        return tf.identity(values), lambda d_values: d_values * tf.cast(factor, d_values.dtype)

    return scaled(values)


def _is_for_shapes() -> bool:
    """Whether Keras 2 asks with a graph that it throws away; the paper's network has 28, half a second each."""
    return getattr(tf.compat.v1.get_default_graph(), "name", "").endswith("_scratch_graph")


@keras.saving.register_keras_serializable(package="keras_retinaface")
class DeformableConv2D(keras.layers.Layer):
    """A convolution that learns where to look: an inner convolution gives offsets and, in v2, factors of the samples.

    The inner convolution starts at zero, so that a new layer is the ordinary convolution exactly. Its weights are
    `offset_kernel` and `offset_bias`; the channels are offsets tap by tap, (y, x), then the factors.

    Args:
        filters: channels of the output.
        kernel_size: rows and columns of both convolutions' windows.
        strides: pixels between neighbouring outputs.
        padding: "same" or "valid" as Keras has them, or the number of zeros on every side.
        use_mask: whether samples have factors `2 * sigmoid` (v2).
        use_bias: whether the outer convolution has a bias.
        kernel_initializer: initializer of the outer convolution's kernel.
        offset_rate: factor of the gradients of the inner convolution.
        tile: output locations sampled at once; bounds memory.
        sampler: one of `deform_op.SAMPLERS`; see `deform_op.convolve`.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        padding: str | int = "same",
        use_mask: bool = True,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        offset_rate: float = 0.1,
        tile: int = 4096,
        sampler: str = "gather",
        **kwargs,
    ):
        super().__init__(**kwargs)
        sizes = {"filters": filters, "kernel_size": kernel_size, "strides": strides, "tile": tile}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"`{name}` must be 1 or more. Received: {name}={value}")
        if padding not in ("same", "valid") and not (isinstance(padding, int) and padding >= 0):
            raise ValueError(f"`padding` must be 'same', 'valid' or a number from 0. Received: padding={padding!r}")
        if sampler not in deform_op.SAMPLERS:
            raise ValueError(f"`sampler` must be one of {deform_op.SAMPLERS}. Received: sampler={sampler!r}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.use_mask = use_mask
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.offset_rate = offset_rate
        self.tile = tile
        self.sampler = sampler

    def build(self, input_shape):
        """Creates the weights of both convolutions."""
        window = (self.kernel_size, self.kernel_size, input_shape[-1])
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*window, self.filters),
            initializer=self.kernel_initializer,
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        num_offsets = self.kernel_size**2 * (3 if self.use_mask else 2)
        self.offset_kernel = self.add_weight(
            name="offset_kernel",
            shape=(*window, num_offsets),
            initializer="zeros",
        )
        self.offset_bias = self.add_weight(name="offset_bias", shape=(num_offsets,), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs):
        """Convolves `[B, H, W, C]` to `[B, rows, columns, filters]`."""
        if _is_for_shapes():
            return tf.compat.v1.placeholder(inputs.dtype, self.compute_output_shape(inputs.shape))
        offsets, mask = self.offsets_and_mask(inputs)
        outputs = deform_op.convolve(
            inputs,
            offsets,
            tf.convert_to_tensor(self.kernel),
            mask,
            strides=self.strides,
            padding=self.padding,
            tile=self.tile,
            sampler=self.sampler,
        )
        return tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias)) if self.use_bias else outputs

    def offsets_and_mask(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns what `deform_op.convolve` takes, in float32 at least: a half would round what lies between pixels."""
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        kernel, bias = (
            scale_gradient(tf.cast(tf.convert_to_tensor(weight), dtype), self.offset_rate)
            for weight in (self.offset_kernel, self.offset_bias)
        )
        inputs, padding = tf.cast(inputs, dtype), self.padding
        if isinstance(padding, int):
            inputs, padding = tf.pad(inputs, [[0, 0], [padding, padding], [padding, padding], [0, 0]]), "valid"
        values = tf.nn.conv2d(inputs, kernel, self.strides, padding.upper()) + bias
        if not self.use_mask:
            return values, None
        num_points = self.kernel_size**2
        return values[..., : 2 * num_points], 2.0 * tf.sigmoid(values[..., 2 * num_points :])

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output; sizes that are unknown stay so."""
        extent = self.kernel_size - 1
        padding = {"same": extent, "valid": 0}[self.padding] if isinstance(self.padding, str) else 2 * self.padding
        sizes = (
            None if size is None else (size + padding - extent - 1) // self.strides + 1 for size in input_shape[1:3]
        )
        return (input_shape[0], *sizes, self.filters)

    def get_config(self):
        """Returns the arguments of `__init__`."""
        plain = ("filters", "kernel_size", "strides", "padding", "use_mask", "use_bias")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in (*plain, "offset_rate", "tile", "sampler")},
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config):
        """Makes a layer from its arguments; files of earlier versions hold two more, which were always 1."""
        config = dict(config)
        for name in ("dilation_rate", "groups"):
            if config.pop(name, 1) != 1:
                raise ValueError(f"`{name}` of a deformable convolution must be 1. Received: {config}")
        return super().from_config(config)


@contextlib.contextmanager
def only_gathers(model: keras.Model):
    """Makes the deformable convolutions of a model sample with ops that TFLite has, for what is traced inside."""
    layers = [layer for layer in model.layers if isinstance(layer, DeformableConv2D)]
    samplers = [layer.sampler for layer in layers]
    for layer in layers:
        layer.sampler = "gather"
    try:
        yield
    finally:
        for layer, sampler in zip(layers, samplers):
            layer.sampler = sampler
