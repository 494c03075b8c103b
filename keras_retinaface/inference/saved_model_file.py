"""Opens SavedModels that export made: what a graph of another maker would do is found out before it can do it."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterable

_GRAPH, _SEAL = "saved_model.pb", "assets.extra/checksums.json"
_SIGNATURE = "serving_default"
_SIGNATURES = {_SIGNATURE, "serve_jpeg", "__saved_model_init_op"}
_KINDS = {"user_object", "function", "bare_concrete_function", "variable", "constant", "captured_tensor"}
_LARGEST_GRAPH, _LARGEST_CONSTANT = 1 << 29, 1 << 28
# None is any number.
_INPUTS = {"image": ("uint8", (None, None, None, 3))}
_OUTPUTS = {
    "boxes": ("float32", (None, None, 4)),
    "scores": ("float32", (None, None)),
    "landmarks": ("float32", (None, None, 5, 2)),
    "count": ("int32", (None,)),
}
# Ops that compute, and those of loops, calls and variables. None of them reads or writes files, opens connections, or
# calls Python. What exports hold and what later versions may: a new op is a new word here, and the tests ask for it.
_COMPUTING = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Bitcast
    BroadcastArgs BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Const Conv2D Cumprod Cumsum DecodeAndCropJpeg
    DecodeImage DecodeJpeg DecodePng DepthToSpace DepthwiseConv2dNative Div DivNoNan DynamicStitch DynamicPartition
    Einsum Elu EnsureShape Equal Exp ExpandDims Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN Inv InvertPermutation IsFinite
    IsInf IsNan LeakyRelu Less LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max
    MaxPool Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Neg NoOp NonMaxSuppressionV3 NonMaxSuppressionV4
    NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 ParallelConcat Placeholder Pow PreventGradient Prod
    RaggedGather RaggedRange RaggedTensorFromVariant RaggedTensorToTensor RaggedTensorToVariant Range Rank RealDiv
    Reciprocal Relu Relu6 Reshape ResizeArea ResizeBilinear ResizeNearestNeighbor ReverseV2 Rint Roll Round Rsqrt
    ScatterNd SegmentSum Select SelectV2 Selu Shape ShapeN Sigmoid Sign Size Slice Softmax Softplus SpaceToBatchND
    BatchToSpaceND SpaceToDepth SparseMatrixMatMul SparseSegmentSum SparseTensorDenseMatMul
    SparseTensorToCSRSparseMatrix Split SplitV Sqrt Square SquaredDifference
    Squeeze StopGradient StridedSlice Sub Sum Tanh TensorScatterAdd TensorScatterUpdate Tile TopK TopKV2 Transpose
    TruncateDiv TruncateMod Unique UniqueV2 Unpack UnsortedSegmentSum Where Xdivy Xlogy ZerosLike

    Assert DecodePaddedRaw DecodeRaw ExtractJpegShape StaticRegexReplace StringLength StringToNumber Substr

    Case If StatelessCase StatelessIf While StatelessWhile PartitionedCall StatefulPartitionedCall Enter Exit Merge
    NextIteration Switch LoopCond EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListReserve
    TensorListResize TensorListScatterV2 TensorListSetItem TensorListStack

    AssignVariableOp DisableCopyOnRead ReadVariableOp ResourceGather VarHandleOp VarIsInitializedOp VariableShape

    FlatMapDataset IgnoreErrorsDataset IgnoreErrorsDatasetV2 MapDataset OptionsDataset ReduceDataset
    TensorDataset TensorSliceDataset
    """.split()
)
# What saving itself stands on. These write and read files, so nothing that detection runs may reach them.
_SAVING = frozenset("MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin".split())


def seal(path: pathlib.Path) -> None:
    """Adds the checksums of its files to a SavedModel that was just written."""
    target = path / _SEAL
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(_checksums(path), indent=2) + "\n", encoding="utf-8")


def load(path: str | pathlib.Path):
    """Checks and loads a SavedModel.

    Args:
        path: path of the directory.

    Returns:
        The module, which keeps its variables alive, and its function from `image` to faces.

    Raises:
        ValueError: if it is damaged, was not made by export, or holds an op that has no place in a detector.
    """
    import tensorflow as tf

    path = pathlib.Path(path)
    try:
        _check_seal(path)
        _check_graph(_parse(path / _GRAPH))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    try:
        module = tf.saved_model.load(str(path))
        function = module.signatures[_SIGNATURE]
        found = {name: (spec.dtype.name, _sides(spec.shape)) for name, spec in function.structured_outputs.items()}
    except (tf.errors.OpError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable SavedModel: {' '.join(str(error).split())[:300]}") from error
    _check_tensors(f"{path}: output", _OUTPUTS, found)
    return module, function


def _checksums(path: pathlib.Path) -> dict[str, str]:
    files = [path / _GRAPH, *sorted((path / "variables").glob("*"))]
    return {file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _check_seal(path: pathlib.Path) -> None:
    """Compares with what `seal` wrote; SavedModels of earlier versions have no such file."""
    if not (path / _SEAL).is_file():
        return
    wanted, found = json.loads((path / _SEAL).read_text(encoding="utf-8")), _checksums(path)
    if not isinstance(wanted, dict):
        raise ValueError(f"{_SEAL} is damaged")
    if names := sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name)):
        raise ValueError(f"damaged: {', '.join(names)} differs from what was exported")


def _parse(path: pathlib.Path):
    import google.protobuf.message
    from tensorflow.core.protobuf import saved_model_pb2

    if path.stat().st_size > _LARGEST_GRAPH:
        raise ValueError(f"{_GRAPH} is larger than {_LARGEST_GRAPH} bytes")
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except (google.protobuf.message.DecodeError, RecursionError) as error:
        raise ValueError(f"{_GRAPH} is damaged: {error}") from error
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    if len(saved.meta_graphs) != 1 or not graphs or not graphs[0].object_graph_def.nodes:
        raise ValueError(f"{_GRAPH} must hold one graph with objects, tagged `serve`, as TensorFlow 2 writes it")
    return graphs[0]


def _check_graph(graph) -> None:
    """Refuses signatures, ops and objects that export does not write."""
    unknown = sorted(set(graph.signature_def) - _SIGNATURES)
    if _SIGNATURE not in graph.signature_def or unknown:
        raise ValueError(
            f"not made by export_main.py: expected the signatures {_SIGNATURE} and serve_jpeg. "
            f"Received: {sorted(graph.signature_def)}"
        )
    signature = graph.signature_def[_SIGNATURE]
    for kind, wanted, tensors in (("input", _INPUTS, signature.inputs), ("output", _OUTPUTS, signature.outputs)):
        found = {name: (_dtype_name(tensor.dtype), _proto_sides(tensor)) for name, tensor in tensors.items()}
        _check_tensors(f"not made by export_main.py: {kind}", wanted, found)
    kinds = {node.WhichOneof("kind") for node in graph.object_graph_def.nodes} - _KINDS - {None}
    if graph.asset_file_def or kinds:
        raise ValueError(f"holds {sorted(kinds) or 'assets'}, which no export does")
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    saver = graph.saver_def
    savers = {name.split(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name) if name}
    run = [node for node in graph.graph_def.node if node.name not in savers]
    # Not only what is reached from what we call: whoever loads the file may call any of its functions.
    by_saver = _reached([node for node in graph.graph_def.node if node.name in savers], functions)
    by_others = _reached(run, functions)
    by_others |= _reached_from(graph.object_graph_def.concrete_functions, functions)
    _check_ops(run, _COMPUTING | _SAVING if not savers else _COMPUTING)
    for name, nodes in functions.items():
        is_saving = name in by_saver and name not in by_others
        _check_ops(nodes, _COMPUTING | _SAVING if is_saving else _COMPUTING)


def _reached(nodes: Iterable, functions: dict) -> set[str]:
    """Returns the functions that nodes call, and that those call."""
    return _reached_from([name for node in nodes for name in _called(node)], functions)


def _reached_from(names: Iterable[str], functions: dict) -> set[str]:
    waiting, found = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found.add(name)
            waiting += [called for node in functions[name] for called in _called(node)]
    return found


def _called(node) -> list[str]:
    values = node.attr.values()
    return [f.name for value in values for f in (value.func, *value.list.func) if f.name]


def _check_ops(nodes: Iterable, allowed: frozenset) -> None:
    for node in nodes:
        if node.op not in allowed:
            raise ValueError(f"holds the op {node.op} ({node.name:.80}), which has no place in an exported detector")
        if node.op == "Const":
            size = 1
            for side in node.attr["value"].tensor.tensor_shape.dim:
                size *= max(side.size, 0)
            if size > _LARGEST_CONSTANT:
                raise ValueError(f"the constant {node.name:.80} claims to have {size} numbers")


def _check_tensors(where: str, wanted: dict, found: dict) -> None:
    if set(wanted) != set(found) or any(not _fits(wanted[name], found[name]) for name in wanted):
        raise ValueError(f"{where}: expected {_describe(wanted)}. Received: {_describe(found)}")


def _fits(wanted: tuple, found: tuple) -> bool:
    sides = found[1]
    if wanted[0] != found[0] or sides is None or len(sides) != len(wanted[1]):
        return False
    return all(side is None or side == other for side, other in zip(wanted[1], sides))


def _describe(tensors: dict) -> str:
    said = {
        name: f"{dtype} {'of any rank' if sides is None else ['any' if side is None else side for side in sides]}"
        for name, (dtype, sides) in sorted(tensors.items())
    }
    return ", ".join(f"`{name}` {text}".replace("'", "") for name, text in said.items())[:400] or "none"


def _sides(shape) -> tuple | None:
    return None if shape.rank is None else tuple(shape.as_list())


def _proto_sides(tensor) -> tuple | None:
    shape = tensor.tensor_shape
    return None if shape.unknown_rank else tuple(None if side.size < 0 else side.size for side in shape.dim)


def _dtype_name(number: int) -> str:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    try:
        return tf.dtypes.as_dtype(number).name
    except TypeError:
        return types_pb2.DataType.Name(number) if number in types_pb2.DataType.values() else str(number)
