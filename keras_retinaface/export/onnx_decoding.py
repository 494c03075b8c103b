"""Writes what `decoding.decode` computes as ONNX nodes of standard operators, for any batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper

from keras_retinaface import config as config_lib
from keras_retinaface.export import onnx_graph


class Limits(NamedTuple):
    """Names of the values that decoding goes by.

    Attributes:
        logit: float32 `[1]`, over which an anchor is a face.
        iou: float32 `[1]`, of suppression.
        max_faces: int64 `[1]`, rows of the outputs.
        voting_iou: float32 `[1]`; None for no voting.
        is_voting: bool, whether there is any; None for what `voting_iou` says.
    """

    logit: str
    iou: str
    max_faces: str
    voting_iou: str | None
    is_voting: str | None = None


def fixed(graph: onnx_graph.Graph, detection: config_lib.Detection) -> Limits:
    """Writes the limits of an export as constants."""
    score = detection.score_threshold
    logit = math.log(score / (1.0 - score)) if 0.0 < score < 1.0 else (math.inf if score else -math.inf)
    return Limits(
        graph.constant([logit]),
        graph.constant([detection.iou_threshold]),
        graph.integers(detection.max_faces),
        graph.constant([detection.voting_iou]) if detection.voting_iou else None,
    )


def asked(graph: onnx_graph.Graph) -> Limits:
    """Writes limits that come with each call, as inputs called like the fields of `config.Detection`."""
    score, one = "score_threshold", graph.constant([1.0])
    logit = graph.add("Log", [graph.add("Div", [score, graph.add("Sub", [one, score])])])
    is_voting = graph.add("Greater", ["voting_iou", graph.constant([0.0])])
    is_voting = graph.add("Reshape", [is_voting, graph.constant([], np.int64)])
    return Limits(logit, "iou_threshold", "max_faces", "voting_iou", is_voting)


def write(
    graph: onnx_graph.Graph,
    outputs: dict,
    image: str,
    anchors: config_lib.Anchors,
    limits: Limits,
    *,
    max_candidates: int,
) -> None:
    """Writes decoding; the graph then has the values `boxes`, `scores`, `landmarks` and `count`.

    Args:
        graph: graph that nodes are added to.
        outputs: names of `scores` `[B, A, 2]`, `box_deltas` `[B, A, 4]` and `landmark_deltas` `[B, A, 10]`.
        image: name of the input, `[B, H, W, 3]`.
        anchors: the model's.
        limits: thresholds and rows.
        max_candidates: most anchors of an image that enter suppression.
    """
    add = graph.add
    background, face = graph.column(outputs["scores"], 0), graph.column(outputs["scores"], 1)
    logits = add("Sub", [face, background])  # [B, A]
    # Only anchors that can become a face are decoded: as many as the image that has most of them. One at least, because
    # not every runtime takes empty tensors.
    is_likely = graph.cast(add("Greater", [logits, limits.logit]), TensorProto.INT32)
    num_likely = add("ReduceMax", [add("ReduceSum", [is_likely, graph.integers(1)], keepdims=0)], keepdims=0)
    num_likely = add("Clip", [num_likely, graph.constant(1, np.int32), graph.constant(max_candidates, np.int32)])
    num_likely = add("Min", [graph.cast(num_likely, TensorProto.INT64), graph.sides(logits, 1, 2)])
    logits, order = add("TopK", [logits, num_likely], num_outputs=2, axis=1)  # [B, C]
    centres, sides = _anchors(graph, order, image, anchors)
    deltas = _rows(graph, outputs["box_deltas"], order)
    boxes = _boxes(graph, deltas, centres, sides, anchors.variances)  # [B, C, 4]
    kept = add(
        "NonMaxSuppression",
        [boxes, add("Unsqueeze", [logits, graph.integers(1)]), limits.max_faces, limits.iou, limits.logit],
    )  # [faces, 3]: image, class, candidate
    # Only the logits of faces are left, so that the rows are in order whatever order a runtime suppresses in.
    kept = add("Gather", [kept, graph.integers(0, 2)], axis=1)
    nothing = add(
        "ConstantOfShape",
        [add("Shape", [logits])],
        value=helper.make_tensor("value", TensorProto.FLOAT, [1], [-math.inf]),
    )
    found = add("ScatterND", [nothing, kept, add("GatherND", [logits, kept])])
    num_rows = add("Min", [limits.max_faces, num_likely])
    found, places = add("TopK", [found, num_rows], num_outputs=2, axis=1)  # [B, R]
    is_face = add("Greater", [found, graph.constant([-math.inf])])
    add("ReduceSum", [graph.cast(is_face, TensorProto.INT32), graph.integers(1)], name="count", keepdims=0)
    best = _rows(graph, boxes, places)
    if limits.voting_iou:
        best = _voted(graph, best, boxes, logits, limits)
    centres, sides = _rows(graph, centres, places), _rows(graph, sides, places)
    points = _rows(graph, outputs["landmark_deltas"], add("GatherElements", [order, places], axis=1))
    points = _landmarks(graph, points, centres, sides, anchors.variances[0])
    missing = add("Sub", [limits.max_faces, num_rows])
    for name, values in (("boxes", best), ("scores", add("Sigmoid", [found])), ("landmarks", points)):
        _finish(graph, name, values, is_face, missing)


def _rows(graph, values: str, places: str) -> str:
    """Takes rows of every image: `[B, A, ...]` at `[B, R]`."""
    return graph.add("GatherND", [values, graph.add("Unsqueeze", [places, graph.integers(-1)])], batch_dims=1)


def _anchors(graph, order: str, image: str, anchors: config_lib.Anchors) -> tuple[str, str]:
    """Works out centres `[B, C, 2]`, (x, y), and sides `[B, C, 1]` of anchors from their places, as `anchor.at`."""
    add, strides, num_sizes = graph.add, anchors.strides, anchors.num_per_location
    size = graph.add("Unsqueeze", [graph.sides(image, 1, 3), graph.integers(0)])  # [1, 2]
    steps = graph.constant(np.reshape(strides, (-1, 1)), np.int64)
    cells = add("Div", [add("Add", [size, add("Sub", [steps, graph.integers(1)])]), steps])  # [levels, 2]
    widths = graph.column(cells, 1)
    lengths = add("Mul", [add("Mul", [graph.column(cells, 0), widths]), graph.integers(num_sizes)])
    ends = add("CumSum", [lengths, graph.constant(0, np.int64)])
    starts = add("Sub", [ends, lengths])
    later = add("Slice", [starts, graph.integers(1), graph.integers(len(strides)), graph.integers(0)])
    column = add("Unsqueeze", [order, graph.integers(-1)])  # [B, C, 1]
    is_past = graph.cast(add("GreaterOrEqual", [column, later]), TensorProto.INT64)
    level = add("ReduceSum", [is_past, graph.integers(-1)], keepdims=0)  # [B, C]
    place = add("Sub", [order, add("Gather", [starts, level])])
    cell = add("Div", [place, graph.integers(num_sizes)])
    width = add("Gather", [widths, level])
    row = add("Div", [cell, width])
    position = [add("Sub", [cell, add("Mul", [row, width])]), row]  # x and y
    position = add("Concat", [add("Unsqueeze", [axis, graph.integers(-1)]) for axis in position], axis=-1)
    position = add("Add", [graph.cast(position, TensorProto.FLOAT), graph.constant(0.5)])
    stride = add("Gather", [graph.constant(np.reshape(strides, (-1, 1))), level])
    which = add(
        "Add",
        [
            add("Mul", [level, graph.integers(num_sizes)]),
            add("Sub", [place, add("Mul", [cell, graph.integers(num_sizes)])]),
        ],
    )
    sides = add("Gather", [graph.constant(np.reshape(anchors.sizes, (-1, 1))), which])
    return add("Mul", [position, stride]), sides


def _boxes(graph, deltas: str, centres: str, sides: str, variances) -> str:
    add = graph.add
    moves, ratios = add("Split", [deltas, graph.integers(2, 2)], num_outputs=2, axis=-1)
    moves = add("Mul", [add("Mul", [moves, graph.constant(variances[0])]), sides])
    centres = add("Add", [centres, moves])
    half = add("Mul", [add("Exp", [add("Mul", [ratios, graph.constant(variances[1])])]), sides])
    half = add("Mul", [half, graph.constant(0.5)])
    return add("Concat", [add("Sub", [centres, half]), add("Add", [centres, half])], axis=-1)


def _landmarks(graph, deltas: str, centres: str, sides: str, variance: float) -> str:
    """Decodes `[B, R, 10]` to `[B, R, 5, 2]`."""
    add = graph.add
    deltas = add("Reshape", [deltas, graph.integers(0, 0, -1, 2)])
    centres, sides = (add("Unsqueeze", [values, graph.integers(2)]) for values in (centres, sides))
    return add("Add", [centres, add("Mul", [add("Mul", [deltas, graph.constant(variance)]), sides])])


def _finish(graph, name: str, values: str, is_face: str, missing: str) -> None:
    """Makes rows past the count zero, and adds such rows up to `max_faces`."""
    add, depth = graph.add, {"boxes": 1, "scores": 0, "landmarks": 2}[name]
    if depth:
        is_face = add("Unsqueeze", [is_face, graph.integers(*range(2, 2 + depth))])
    values = add("Where", [is_face, values, graph.constant(0.0)])
    pads = [graph.integers(*[0] * (3 + depth)), missing, *([graph.integers(*[0] * depth)] if depth else [])]
    pads = add("Concat", pads, axis=0)
    add("Pad", [values, pads], name=name)


def _voted(graph, best: str, boxes: str, logits: str, limits: Limits) -> str:
    """Gives boxes `[B, R, 4]` the mean of the candidates that overlap them, as `decoding._vote`."""
    if limits.is_voting is None:
        return _vote(graph, best, boxes, logits, limits)
    # Names of values are told apart from those around a branch by nothing else.
    inner = onnx_graph.Graph(prefix="voting_")
    inner.add("Identity", [_vote(inner, best, boxes, logits, limits)], name="mean_boxes")
    same = helper.make_node("Identity", [best], ["best_boxes"])
    branches = {
        "then_branch": _branch(inner.nodes, "voting_mean_boxes", inner.initializers()),
        "else_branch": _branch([same], "best_boxes", []),
    }
    return graph.add("If", [limits.is_voting], name="voted_boxes", **branches)


def _branch(nodes, output: str, constants):
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "rows", 4])
    return helper.make_graph(nodes, output, [], [value], constants)


def _vote(graph, best: str, boxes: str, logits: str, limits: Limits) -> str:
    add = graph.add
    score = add("Sigmoid", [logits])
    is_likely = add("Greater", [logits, limits.logit])  # of a batch, an image with few has others behind them
    weights = add("Where", [is_likely, add("Mul", [score, score]), graph.constant(0.0)])
    overlap = _iou(graph, best, boxes)  # [B, R, C]
    is_near = graph.cast(add("GreaterOrEqual", [overlap, limits.voting_iou]), TensorProto.FLOAT)
    weights = add("Mul", [add("Unsqueeze", [weights, graph.integers(1)]), is_near])
    total = add("ReduceSum", [weights, graph.integers(-1)], keepdims=1)
    # Scores near zero have a square of zero.
    is_any = add("Greater", [total, graph.constant(0.0)])
    total = add("Where", [is_any, total, graph.constant(1.0)])
    return add("Where", [is_any, add("Div", [add("MatMul", [weights, boxes]), total]), best])


def _iou(graph, best: str, boxes: str) -> str:
    """Returns overlaps of every pair, `[B, R, C]`."""
    add = graph.add
    edges = add("Split", [best], num_outputs=4, axis=-1)  # [B, R, 1]
    others = add("Split", [add("Transpose", [boxes], perm=[0, 2, 1])], num_outputs=4, axis=1)  # [B, 1, C]
    zero, sides, areas, other_areas = graph.constant(0.0), [], [], []
    for low, high in ((0, 2), (1, 3)):
        end, start = add("Min", [edges[high], others[high]]), add("Max", [edges[low], others[low]])
        sides.append(add("Max", [add("Sub", [end, start]), zero]))
        areas.append(add("Max", [add("Sub", [edges[high], edges[low]]), zero]))
        other_areas.append(add("Max", [add("Sub", [others[high], others[low]]), zero]))
    shared = add("Mul", sides)
    union = add("Sub", [add("Add", [add("Mul", areas), add("Mul", other_areas)]), shared])
    # Of two empty boxes nothing overlaps.
    return add("Div", [shared, add("Max", [union, graph.constant(1e-12)])])
