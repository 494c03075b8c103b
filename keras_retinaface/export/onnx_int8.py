"""Full-integer quantisation of a detector's network for ONNX; heads and what decodes their outputs stay in float32."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx as onnx_lib

from keras_retinaface.inference import onnx_runtime
from keras_retinaface.layers import layer_name

_INSIDE = (layer_name.BACKBONE, layer_name.PYRAMID, layer_name.CONTEXT)
# Of convolutions' kind, and what lies between them: a map that left int8 there would be turned twice.
_OPERATORS = ("Conv", "Relu", "LeakyRelu", "Clip", "Add", "Concat", "Resize", "MaxPool")
# The quantiser's own mark of a graph that was simplified for it, which ours is from the start; else it complains.
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


def quantize(model_proto, photos: Sequence[np.ndarray], layers: Collection[str]):
    """Quantises weights (one scale a channel) and activations, as pairs of QuantizeLinear and DequantizeLinear.

    Args:
        model_proto: an `onnx.ModelProto` in float32 whose nodes are called like the network's layers.
        photos: uint8 `[1, H, W, 3]`, RGB, to calibrate on.
        layers: names of the layers that may become int8; of these the ones before the heads do.

    Returns:
        A new `onnx.ModelProto`.
    """
    onnx_runtime.load()
    from onnxruntime import quantization

    class Feed(quantization.CalibrationDataReader):
        def __init__(self):
            self._images: Iterator = iter(photos)

        def get_next(self):
            image = next(self._images, None)
            return None if image is None else {"image": image}

    names = [node.name for node in model_proto.graph.node if _is_inside(node, layers)]
    prepared = onnx_lib.ModelProto()
    prepared.CopyFrom(model_proto)
    prepared.metadata_props.add(key=_PREPARED[0], value=_PREPARED[1])
    with tempfile.TemporaryDirectory() as folder:
        source, path = (str(pathlib.Path(folder) / name) for name in ("float32.onnx", "int8.onnx"))
        onnx_lib.save(prepared, source)
        quantization.quantize_static(
            source,
            path,
            Feed(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # Weights of seven bits: processors without VNNI add two products in 16 bits, which eight would overflow.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_quantize=names,
        )
        quantized = onnx_lib.load(path)
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model_proto.metadata_props)
    # The quantiser speaks for operators of its own, which it did not use.
    used = {node.domain for node in quantized.graph.node}
    for entry in [entry for entry in quantized.opset_import if entry.domain not in used]:
        quantized.opset_import.remove(entry)
    quantized.ir_version = model_proto.ir_version
    quantized.producer_name, quantized.producer_version = model_proto.producer_name, ""
    onnx_lib.checker.check_model(quantized, full_check=True)
    return quantized


def _is_inside(node, layers: Collection[str]) -> bool:
    """Returns whether a node is of a layer before the heads that is to be quantised."""
    layer = node.name.removeprefix("all_")
    return node.op_type in _OPERATORS and layer in layers and layer_name.part_of(layer) in _INSIDE
