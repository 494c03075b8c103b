"""What a model consists of: parameters and multiply-adds per part."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from keras_retinaface.layers import deform_conv, layer_name

_BILINEAR = 4  # pixels under a sampling point
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, deform_conv.DeformableConv2D)


def count(model: keras.Model, image_size: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Counts parameters and multiply-adds of convolutions, for one image.

    Norms, activations and biases are left out of the multiply-adds, as is usual. A deformable convolution counts its
    two convolutions and four multiply-adds a sample.

    Args:
        model: a RetinaFace.
        image_size: (height, width), pixels.

    Returns:
        (parameters, multiply-adds) by part, in the order of the network; statistics of norms are no parameters.
    """
    counts = {part: [0, 0] for part in layer_name.PARTS}
    for layer in model.layers:
        counts[layer_name.part_of(layer.name)][0] += sum(
            math.prod(variable.shape) for variable in layer.weights if "moving_" not in variable.name
        )
    convolutions = [layer for layer in model.layers if isinstance(layer, _CONVOLUTIONS)]
    for layer, num_locations in zip(convolutions, _num_locations(model, convolutions, image_size)):
        counts[layer_name.part_of(layer.name)][1] += num_locations * _multiply_adds_per_location(layer)
    if not model.config.network.dense:
        del counts[layer_name.DENSE_HEAD]
    return {part: (parameters, multiply_adds) for part, (parameters, multiply_adds) in counts.items()}


def table(model: keras.Model, image_size: tuple[int, int]) -> str:
    """Returns `count` as a Markdown table with a row of totals."""
    counts = count(model, image_size)
    counts["total"] = tuple(sum(values) for values in zip(*counts.values()))
    lines = [f"| {image_size[0]} x {image_size[1]} | parameters | multiply-adds |", "|---|---:|---:|"]
    lines += [f"| {part} | {parameters:,} | {work:,} |" for part, (parameters, work) in counts.items()]
    return "\n".join(lines)


def _multiply_adds_per_location(layer) -> int:
    kernel = layer.weights[0].shape  # [height, width, channels, filters], depthwise [height, width, channels, 1]
    if not isinstance(layer, deform_conv.DeformableConv2D):
        return math.prod(kernel)
    return math.prod(kernel) + math.prod(layer.offset_kernel.shape) + _BILINEAR * math.prod(kernel[:3])


def _num_locations(model, layers, image_size) -> list[int]:
    """Counts the pixels that layers put out; a head that all levels share has as many as all levels."""
    shared = [layer for layer in layers if layer_name.is_shared_head(layer.name)]
    own = [layer for layer in layers if layer not in shared]
    outputs = {layer.name: layer.output for layer in own}
    probe = tf.function(keras.Model(model.inputs[0], outputs), autograph=False)
    shapes = probe.get_concrete_function(tf.TensorSpec([1, *image_size, 3])).structured_outputs
    counts = {name: math.prod(tensor.shape[1:3]) for name, tensor in shapes.items()}
    per_image = sum(math.prod(-(-side // stride) for side in image_size) for stride in model.config.anchors.strides)
    return [counts.get(layer.name, per_image) for layer in layers]
