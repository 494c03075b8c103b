"""A `.tflite` file of a few hundred bytes with the tensors of a detector, written without TensorFlow."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_retinaface.formats import tflite_file

_TENSORS = {
    "image": (schema.TensorType.UINT8, [1, 32, 48, 3], None),
    "boxes": (schema.TensorType.FLOAT32, [1, 2, 4], np.arange(8, dtype=np.float32)),
    "scores": (schema.TensorType.FLOAT32, [1, 2], np.array([0.75, 0.5], np.float32)),
    "landmarks": (schema.TensorType.FLOAT32, [1, 2, 5, 2], np.arange(20, dtype=np.float32)),
    "count": (schema.TensorType.INT32, [1], np.array([2], np.int32)),
}


def part(tensors=_TENSORS) -> bytes:
    """Returns a model with one signature, as a converter gives it; its outputs are constants."""
    model = schema.ModelT()
    model.version, model.operatorCodes, model.buffers = 3, [], [schema.BufferT()]
    subgraph, signature = schema.SubGraphT(), schema.SignatureDefT()
    subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [0], list(range(1, len(tensors)))
    signature.signatureKey, signature.subgraphIndex, signature.inputs, signature.outputs = "serving_default", 0, [], []
    for index, (name, (kind, shape, value)) in enumerate(tensors.items()):
        tensor, entry = schema.TensorT(), schema.TensorMapT()
        tensor.name, tensor.type, tensor.shape = name, kind, np.array(shape, np.int32)
        if value is not None:
            tensor.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(value.tobytes(), np.uint8)
        subgraph.tensors.append(tensor)
        entry.name, entry.tensorIndex = name, index
        (signature.outputs if index else signature.inputs).append(entry)
    model.subgraphs, model.signatureDefs = [subgraph], [signature]
    builder = tflite_file._Builder(1 << 10)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def tflite(*, is_sealed: bool = True) -> bytes:
    """Returns the file that export would make of `part`, or one of an earlier version, which has no checksum."""
    content = tflite_file.merge({"serving_default": part()}, {"name": "RetinaFace", "signatures": {}})
    return content if is_sealed else part()
