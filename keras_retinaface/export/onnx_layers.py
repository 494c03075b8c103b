"""Writes the layers of a RetinaFace as ONNX nodes, channels first, with batch norms folded into convolutions.

Not by a converter: tf2onnx pins NumPy and protobuf below what TensorFlow 2.21 needs and leaves a transpose around most
convolutions, and Keras's own export, which calls it, is not in Keras 2. A network of ours has a dozen kinds of layers.
"""

from __future__ import annotations

import keras
import numpy as np
from onnx import TensorProto

from keras_retinaface.export import onnx_graph
from keras_retinaface.layers import deform_conv, preprocessing, pyramid


def write(graph: onnx_graph.Graph, model, image: str) -> dict[str, str]:
    """Writes a network without its dense head.

    Args:
        graph: graph that nodes are added to.
        model: a RetinaFace.
        image: name of the input, uint8 `[B, H, W, 3]`, RGB.

    Returns:
        Names of the model's outputs, `[B, A, numbers of an anchor]` each, by the keys of `head.SHAPES`.

    Raises:
        ValueError: if a layer is of a kind that is not known here.
    """
    network = model.without_dense_head()
    return _Writer(graph, network).run(network, image)


class _Writer:
    """One walk over a functional model; tensors of Keras are known by their `id`, which lives as long as the model."""

    def __init__(self, graph, network):
        self._graph = graph
        self._values: dict[int, str] = {}
        self._pads: dict[int, int] = {}  # of tensors that a convolution still has to pad, pixels on every side
        self._folded: set[int] = set()
        self._calls = [
            call for depth in sorted(network._nodes_by_depth, reverse=True) for call in network._nodes_by_depth[depth]
        ]
        self._consumers: dict[int, list] = {}
        for call in self._calls:
            for tensor in _tensors(call.input_tensors):
                self._consumers.setdefault(id(tensor), []).append(_layer(call))

    def run(self, network, image: str) -> dict[str, str]:
        first = self._graph.add("Transpose", [self._graph.cast(image, TensorProto.FLOAT)], perm=[0, 3, 1, 2])
        for call in self._calls:
            layer, (output,) = _layer(call), _tensors(call.output_tensors)
            inputs = [] if isinstance(layer, keras.layers.InputLayer) else _tensors(call.input_tensors)
            if not inputs:
                self._values[id(output)] = first
            elif id(layer) in self._folded:
                self._values[id(output)] = self._values[id(inputs[0])]
            elif type(layer) is keras.layers.ZeroPadding2D:
                self._put_off(layer, inputs[0], output)
            else:
                self._values[id(output)] = self._write(layer, inputs, output)
        return {name: self._values[id(tensor)] for name, tensor in network.output.items()}

    def _put_off(self, layer, source, output) -> None:
        """Leaves padding to the layers behind; their operators pad by themselves."""
        pads = {side for sides in layer.padding for side in sides}
        if len(pads) != 1 or not all(type(user) in _PADDING for user in self._consumers[id(output)]):
            raise ValueError(
                f"layer {layer.name}: only convolutions and pools may follow an even ZeroPadding2D in ONNX"
            )
        self._values[id(output)], self._pads[id(output)] = self._values[id(source)], pads.pop()

    def _write(self, layer, inputs, output) -> str:
        if type(layer) not in _KINDS:
            raise ValueError(f"layer {layer.name}: ONNX export knows no {type(layer).__name__}")
        names = [self._values[id(tensor)] for tensor in inputs]
        if type(layer) not in _PADDING:
            return _KINDS[type(layer)](self._graph, layer, names)
        pad = self._pads.get(id(inputs[0]), 0)
        if type(layer) is keras.layers.MaxPooling2D:
            return _max_pool(self._graph, layer, names, pad)
        factor, shift = self._fold(layer, output)
        return _KINDS[type(layer)](self._graph, layer, names, pad, factor, shift)

    def _fold(self, layer, output) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Returns what a convolution's filters are multiplied with, and its bias: of the norm that follows it alone."""
        bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else 0.0
        users = self._consumers.get(id(output), [])
        if len(users) != 1 or not isinstance(users[0], keras.layers.BatchNormalization):
            return 1.0, bias
        self._folded.add(id(users[0]))
        factor, shift = _affine(users[0])
        return factor, bias * factor + shift


def _affine(norm) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a norm multiplies with and adds, in float64, `[C]`."""
    mean, variance = (getattr(norm, name).numpy().astype(np.float64) for name in ("moving_mean", "moving_variance"))
    factor = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    return factor, (norm.beta.numpy() if norm.center else 0.0) - mean * factor


def _convolution(graph, layer, names, pad, factor, shift) -> str:
    kernel = np.transpose(layer.kernel.numpy().astype(np.float64) * factor, (3, 2, 0, 1))
    attributes = {**_window(layer, pad), "dilations": list(layer.dilation_rate), "group": layer.groups}
    return _convolve(graph, layer.name, names, kernel, shift, attributes)


def _depthwise(graph, layer, names, pad, factor, shift) -> str:
    kernel = getattr(layer, "depthwise_kernel", None)  # [h, w, C, multiplier]
    kernel = (layer.kernel if kernel is None else kernel).numpy()
    if kernel.shape[-1] != 1:
        raise ValueError(f"layer {layer.name}: `depth_multiplier` must be 1. Received: {kernel.shape[-1]}")
    kernel = np.transpose(kernel[..., 0].astype(np.float64) * factor, (2, 0, 1))[:, None]
    return _convolve(graph, layer.name, names, kernel, shift, {**_window(layer, pad), "group": kernel.shape[0]})


def _convolve(graph, name, names, kernel, shift, attributes) -> str:
    bias = graph.constant(np.broadcast_to(shift, kernel.shape[:1]), np.float32, f"{name}_bias")
    return graph.add("Conv", [*names, graph.weight(kernel, f"{name}_kernel"), bias], name=name, **attributes)


def _window(layer, pad: int) -> dict:
    """Returns kernel, strides and padding of a convolution behind `pad` pixels of zeros."""
    sides, strides = list(layer.kernel_size), list(layer.strides)
    shared = {"kernel_shape": sides, "strides": strides}
    if layer.padding == "valid":
        return {**shared, "pads": [pad] * 4}
    if pad:
        raise ValueError(
            f"layer {layer.name}: padding both before and inside a convolution is not known to ONNX export"
        )
    dilation = layer.dilation_rate
    if strides == [1, 1] and all(side % 2 for side in sides):
        return {**shared, "pads": [side // 2 * d for side, d in zip(sides, dilation)] * 2}
    return {**shared, "auto_pad": "SAME_UPPER"}


def _deformable(graph, layer, names, pad, factor, shift) -> str:
    """Writes both convolutions; the outer one as samples of all taps, one below the other, under a 1x1 convolution.

    Not as `DeformConv`, which ONNX has from opset 19: OpenVINO and older onnxruntimes do not know it.
    """
    side, stride = layer.kernel_size, layer.strides
    if layer.padding == "same":
        if stride != 1 or not side % 2:
            raise ValueError(f"layer {layer.name}: a deformable convolution with `same` padding must have stride 1")
        pad += side // 2
    else:
        pad += 0 if layer.padding == "valid" else layer.padding
    window = {"kernel_shape": [side] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    kernel = np.transpose(layer.offset_kernel.numpy(), (3, 2, 0, 1))
    moves = _convolve(graph, f"{layer.name}_offset", names, kernel, layer.offset_bias.numpy(), window)
    mask = None
    if layer.use_mask:
        moves, mask = graph.add("Split", [moves, graph.integers(2 * side**2, side**2)], num_outputs=2, axis=1)
        mask = graph.add("Mul", [graph.add("Sigmoid", [mask]), graph.constant(2.0)])  # [B, taps, h, w]
    samples = _samples(graph, *names, moves, mask, side=side, stride=stride, pad=pad)
    kernel = np.transpose(layer.kernel.numpy().astype(np.float64) * factor, (3, 2, 0, 1))
    kernel = kernel.reshape(len(kernel), -1, 1, 1)
    return _convolve(graph, layer.name, [samples], kernel, shift, {"kernel_shape": [1, 1]})


def _samples(graph, maps, moves, mask, *, side: int, stride: int, pad: int) -> str:
    """Samples `[B, C, H, W]` at the taps that `[B, 2 * taps, h, w]` move: `[B, C * taps, h, w]`, zero outside."""
    add, num_taps = graph.add, side**2
    size = graph.sides(moves, 2, 4)  # h, w
    split = add("Concat", [graph.integers(0, num_taps, 2), size], axis=0)
    moves = add("Reshape", [moves, split])  # [B, taps, 2, h, w], (y, x)
    places = []
    for axis, taps in enumerate(np.mgrid[:side, :side].reshape(2, -1) - pad):
        length = graph.column(size, axis, 0)
        line = add("Range", [graph.constant(0, np.int64), length, graph.constant(1, np.int64)])
        line = add("Mul", [graph.cast(line, TensorProto.FLOAT), graph.constant(float(stride))])
        line = add("Unsqueeze", [line, graph.integers(1 - axis)])  # [h, 1] or [1, w]
        place = add("Add", [graph.column(moves, axis, 2), graph.constant(taps.reshape(-1, 1, 1))])
        place = add("Add", [place, line])  # [B, taps, h, w], pixels of the map
        # From -1 to 1 between the outer edges of the outer pixels, as GridSample counts.
        whole = graph.cast(graph.sides(maps, 2 + axis, 3 + axis), TensorProto.FLOAT)
        place = add("Div", [add("Add", [add("Mul", [place, graph.constant(2.0)]), graph.constant(1.0)]), whole])
        places.append(add("Unsqueeze", [add("Sub", [place, graph.constant(1.0)]), graph.integers(-1)]))
    grid = add("Concat", places[::-1], axis=-1)  # [B, taps, h, w, 2], (x, y)
    width = graph.sides(grid, 3, 4)
    grid = add("Reshape", [grid, add("Concat", [graph.integers(0, -1), width, graph.integers(2)], axis=0)])
    sampled = add("GridSample", [maps, grid], align_corners=0, mode="bilinear", padding_mode="zeros")
    if mask is not None:
        rows = add("Concat", [graph.integers(0, 1, -1), width], axis=0)
        sampled = add("Mul", [sampled, add("Reshape", [mask, rows])])  # [B, C, taps * h, w]
    channels = add("Mul", [graph.sides(maps, 1, 2), graph.integers(num_taps)])
    return add("Reshape", [sampled, add("Concat", [graph.integers(0), channels, size], axis=0)])


def _max_pool(graph, layer, names, pad) -> str:
    # ONNX pads with minus infinity, Keras here with zeros: the same behind a ReLU, which is where ours pool.
    pads = {"pads": [pad] * 4} if layer.padding == "valid" else {"auto_pad": "SAME_UPPER"}
    sides, strides = list(layer.pool_size), list(layer.strides)
    return graph.add("MaxPool", names, name=layer.name, kernel_shape=sides, strides=strides, **pads)


def _norm(graph, layer, names) -> str:
    factor, shift = (graph.constant(np.reshape(values, (-1, 1, 1))) for values in _affine(layer))
    return graph.add("Add", [graph.add("Mul", [*names, factor]), shift], name=layer.name)


def _relu(graph, layer, names) -> str:
    if layer.max_value is not None:
        limits = [graph.constant(0.0), graph.constant(layer.max_value)]
        return graph.add("Clip", [*names, *limits], name=layer.name)
    if layer.negative_slope:
        return graph.add("LeakyRelu", names, name=layer.name, alpha=float(layer.negative_slope))
    return graph.add("Relu", names, name=layer.name)


def _subtract_mean(graph, layer, names) -> str:
    return graph.add("Sub", [*names, graph.constant(np.reshape(layer.mean, (1, 3, 1, 1)))], name=layer.name)


def _upsample(graph, layer, names) -> str:
    """Repeats pixels up to the size of a second map: nearest, the source pixel rounded down."""
    x, reference = names
    sizes = graph.add("Concat", [graph.sides(x, 0, 2), graph.sides(reference, 2, 4)], axis=0)
    places = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", [x, "", "", sizes], name=layer.name, mode="nearest", **places)


def _rows(graph, layer, names) -> str:
    """Turns the maps of a head into one row an anchor: `[B, anchors * numbers, h, w]` to `[B, A, numbers]`."""
    if layer.target_shape[0] != -1:
        raise ValueError(f"layer {layer.name}: ONNX export knows a Reshape into rows of anchors only")
    last = graph.add("Transpose", names, perm=[0, 2, 3, 1])
    shape = graph.integers(0, -1, int(np.prod(layer.target_shape[1:])))
    return graph.add("Reshape", [last, shape], name=layer.name)


def _concatenate(graph, layer, names) -> str:
    # Channels of maps, which come second here, or rows of anchors, second as ever; outputs of the file have the names
    # of these layers.
    return graph.add("Concat", names, name=f"all_{layer.name}", axis=1)


def _add(graph, layer, names) -> str:
    first, second = names
    return graph.add("Add", [first, second], name=layer.name)


def _identity(graph, layer, names) -> str:
    return names[0]


_PADDING = {
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    deform_conv.DeformableConv2D,
    keras.layers.MaxPooling2D,
}
_KINDS = {
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _depthwise,
    deform_conv.DeformableConv2D: _deformable,
    keras.layers.MaxPooling2D: _max_pool,
    keras.layers.BatchNormalization: _norm,
    keras.layers.ReLU: _relu,
    preprocessing.SubtractMean: _subtract_mean,
    pyramid.UpsampleLike: _upsample,
    keras.layers.Reshape: _rows,
    keras.layers.Concatenate: _concatenate,
    keras.layers.Add: _add,
    keras.layers.Identity: _identity,
}


def _layer(call):
    # Keras 3 calls the layer of a node its operation.
    return getattr(call, "operation", None) or call.outbound_layer


def _tensors(tensors) -> list:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
