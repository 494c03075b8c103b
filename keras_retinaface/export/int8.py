"""Full-integer quantisation of a detector's network for TFLite; what decodes its outputs stays in float32."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import tensorflow as tf
from tensorflow.lite.python import convert

from keras_retinaface.layers import layer_name

_HEADS = (layer_name.HEADS, layer_name.DENSE_HEAD)
_CALL = re.compile(r"_\d+$")


def int8(converter, feed: Callable, layers: Sequence[str], float_layers: Collection[str] = ()) -> bytes:
    """Quantises weights (one scale a channel) and activations of a network up to its heads.

    One scale for pixels and size ratios of all anchors leaves 256 places for a box: quantised decoding finds hundreds
    of faces that are not there and none that is. So everything behind the heads is named to the quantiser as not for
    it. Before that, addition, padding and concatenation are quantised too: the converter gives the inputs of a
    concatenation the scale of its output, and no feature map leaves int8 between the image and the heads.

    Args:
        converter: a `tf.lite.TFLiteConverter` of uint8 images to faces, of one signature.
        feed: returns an iterator of inputs to calibrate on.
        layers: names of the network's layers.
        float_layers: names of those that stay in float32 with their norms, paddings and activations.

    Returns:
        The content of a `.tflite` file.
    """
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = feed
    converter.experimental_mlir_quantizer = True
    # Both stacks have these two, which TensorFlow's own quantisation debugger is made of; the debugger itself builds
    # and loads a third model that nobody asked for.
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    return convert.mlir_quantize(
        calibrated,
        disable_per_channel=False,
        fully_quantize=False,
        # An op of two outputs has no name that the quantiser would know it by; rounded, half the scores would be equal.
        denylisted_ops=["TOPK_V2"],
        denylisted_nodes=_float_nodes(calibrated, layers, float_layers),
    )


def _float_nodes(model: bytes, layers: Sequence[str], float_layers: Collection[str]) -> list[str]:
    """Names the outputs of ops that stay in float: those behind the heads, and those of `float_layers`."""
    # Without delegates: they would replace the ops that are to be listed.
    interpreter = tf.lite.Interpreter(
        model_content=model, experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF
    )
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    behind, found = set(), []
    for operation in interpreter._get_ops_details():
        outputs = [index for index in operation["outputs"] if index in names]
        layer = _layer_of(names[outputs[0]], layers)
        is_head = operation["op_name"] == "CONV_2D" and layer and layer_name.part_of(layer) in _HEADS
        is_behind = any(index in behind for index in operation["inputs"])
        if is_head or is_behind:
            behind.update(outputs)
        if is_behind or layer in float_layers:
            found.extend(names[index] for index in outputs)
    if not behind:
        raise ValueError("`converter` must be of a network with heads")
    return found


def _layer_of(tensor: str, layers: Sequence[str]) -> str:
    """Returns the layer whose convolution a tensor comes from; fused tensors carry several names, their own first."""
    for part in tensor.split(";")[0].split("/"):
        # Keras 3 counts the calls of a layer behind its name.
        for called in (part, _CALL.sub("", part)):
            name = layer_name.convolution_of(called)
            if name in layers:
                return name
    return ""
