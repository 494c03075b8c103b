"""From raw outputs to faces, in the graph: decode, non-maximum suppression, padding. TFLite built-in ops only.

Keras, SavedModel and TFLite detectors all run what `make_function` makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, landmark
from keras_retinaface.layers import head


def make_function(
    model,
    detection: config_lib.Detection,
    batch_size: int | None,
    image_size: tuple | None = None,
    *,
    has_dense: bool = False,
    network: Callable | None = None,
):
    """Wraps a model and its decoding in a graph.

    Args:
        model: a `model.RetinaFace`.
        detection: thresholds and limits, constants of the graph.
        batch_size: fixed number of images, or None for any.
        image_size: fixed (height, width) in pixels, or None for any: one trace serves every size.
        has_dense: whether the dense head runs too, which nothing but meshes needs.
        network: what computes the model's outputs from uint8 images instead of the model.

    Returns:
        A `tf.function` from `image` uint8 `[B, H, W, 3]`, RGB, to the dict that `decode` describes.
    """
    height, width = image_size or (None, None)
    called = model if has_dense else model.without_dense_head()

    # Nothing in it branches on a tensor in Python, and rewriting its source took most of the first face's time.
    spec = tf.TensorSpec([batch_size, height, width, 3], tf.uint8, name="image")

    @tf.function(input_signature=[spec], autograph=False)
    def serve(image):
        outputs = network(image) if network else called(tf.cast(image, tf.float32), training=False)
        size = image_size or tf.shape(image)[1:3]
        return decode(outputs, size, model.config.anchors, detection)

    return serve


def decode(
    outputs: dict[str, tf.Tensor],
    image_size: tf.Tensor | tuple[int, int],
    anchors: config_lib.Anchors,
    detection: config_lib.Detection,
) -> dict[str, tf.Tensor]:
    """Turns raw outputs into at most `max_faces` faces an image, best first.

    Args:
        outputs: outputs of the model: `scores` `[B, A, 2]`, `box_deltas` `[B, A, 4]`, `landmark_deltas` `[B, A, 5, 2]`,
            and `mesh_code` `[B, A, 144]` where meshes are wanted.
        image_size: int32 `[2]` or a pair, (height, width) of the model's input, pixels.
        anchors: the model's.
        detection: thresholds and limits.

    Returns:
        `boxes` float32 `[B, N, 4]` (xyxy, pixels), `scores` float32 `[B, N]`, `landmarks` float32 `[B, N, 5, 2]` and
        `count` int32 `[B]`; N is `max_faces`, entries past `count` are zero. With `mesh_code` also `dense`, float32
        `[B, N, 148]`: the anchor (xyxy, pixels) and its row of the dense head, what `reconstruction` makes meshes of.
    """
    # How much more a face than background, whose sigmoid is the score. A product, because TFLite cuts single columns
    # out of a tensor number by number.
    logits = tf.linalg.matvec(outputs["scores"], tf.constant([-1.0, 1.0]))  # [B, A]

    def decode_one(image_outputs):
        rows, codes = image_outputs[:3], image_outputs[3:]
        *faces, kept, anchor_boxes = _decode_image(*rows, image_size, anchors, detection)
        if not codes:
            return tuple(faces)
        dense = tf.concat([anchor_boxes, tf.gather(codes[0], kept)], -1)
        return (*faces, tf.where((tf.range(detection.max_faces) < faces[-1])[:, None], dense, 0.0))

    keys = ("boxes", "scores", "landmarks", "count")
    rows = (logits, outputs["box_deltas"], outputs["landmark_deltas"])
    if "mesh_code" in outputs:
        keys, rows = (*keys, "dense"), (*rows, outputs["mesh_code"])
    batch_size = logits.shape[0]
    if batch_size is not None:
        # A loop of the graph is slower and less portable than a few copies of its body.
        images = [decode_one(parts) for parts in zip(*(_unstack(row, batch_size) for row in rows))]
        stacked = [tf.stack(parts) for parts in zip(*images)]
    else:
        specs = (
            tf.TensorSpec([detection.max_faces, 4]),
            tf.TensorSpec([detection.max_faces]),
            tf.TensorSpec([detection.max_faces, landmark.NUM_LANDMARKS, 2]),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([detection.max_faces, 4 + head.DENSE_SHAPE[0]]),
        )[: len(keys)]
        stacked = tf.map_fn(decode_one, rows, fn_output_signature=specs)
    return dict(zip(keys, stacked))


def _unstack(rows: tf.Tensor, batch_size: int) -> list[tf.Tensor]:
    if batch_size == 1 and rows.shape.is_fully_defined():
        return [tf.reshape(rows, rows.shape[1:])]  # copies nothing, where unstacking does
    return tf.unstack(rows, batch_size)


def _decode_image(logits, box_deltas, landmark_deltas, image_size, anchors, detection):
    """Decodes one image: `[A]`, `[A, 4]`, `[A, 5, 2]` -> what `decode` gives, kept rows, their anchors."""
    # Only anchors that can become a face are decoded, and only theirs are worked out: in a .tflite file a table of all
    # anchors of a large image would be bigger than the weights. Scores come last, for what suppression keeps. Few are
    # over the threshold, and choosing a fixed number took a tenth of the network's time; one at least, because a kernel
    # may not take empty tensors.
    num_likely = tf.reduce_sum(tf.cast(logits > _logit(detection.score_threshold), tf.int32))
    logits, order = tf.math.top_k(logits, tf.clip_by_value(num_likely, 1, detection.max_candidates))
    anchor_boxes = anchor.at(order, image_size, anchors.strides, anchors.sizes)
    boxes = box.decode(tf.gather(box_deltas, order), anchor_boxes, anchors.variances)
    # The op wants yx order, but overlap does not change when both boxes swap their axes. Version 4 is the one that
    # TFLite has built in.
    kept, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes,
        scores=logits,
        max_output_size=detection.max_faces,
        iou_threshold=detection.iou_threshold,
        score_threshold=_logit(detection.score_threshold),
        pad_to_max_output_size=True,
    )
    kept = tf.reshape(kept, [detection.max_faces])
    is_face = tf.range(detection.max_faces) < count  # [N]
    # The softmax of two is a sigmoid, but a quantised export would round that op's result to one of 256 places.
    scores = tf.exp(-tf.math.log(1.0 + tf.exp(-tf.gather(logits, kept))))
    rows, anchor_boxes = tf.gather(order, kept), tf.gather(anchor_boxes, kept)
    landmarks = landmark.decode(tf.gather(landmark_deltas, rows), anchor_boxes, anchors.variances[0])
    kept_boxes = tf.gather(boxes, kept)
    if detection.voting_iou:
        kept_boxes = _vote(kept_boxes, count, boxes, logits, detection)
    return (
        tf.where(is_face[:, None], kept_boxes, 0.0),
        tf.where(is_face, scores, 0.0),
        tf.where(is_face[:, None, None], landmarks, 0.0),
        count,
        rows,
        anchor_boxes,
    )


def _vote(kept_boxes, count, boxes, logits, detection) -> tf.Tensor:
    """Gives the first `count` kept boxes, `[N, 4]`, the mean of the candidates that overlap them: `[C, 4]`, `[C]`.

    Box voting of Gidaris and Komodakis, 2015 (arXiv 1505.01749, section 4.4), with squared scores as weights.
    """
    num_kept = tf.maximum(count, 1)
    best = kept_boxes[:num_kept]
    weights = tf.exp(-2.0 * tf.math.log(1.0 + tf.exp(-logits)))
    weights *= tf.cast(box.iou(best, boxes) >= detection.voting_iou, tf.float32)  # [K, C]
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    # Scores near zero have a square of zero.
    means = tf.where(total > 0.0, tf.math.divide_no_nan(tf.matmul(weights, boxes), total), best)
    return tf.concat([means, kept_boxes[num_kept:]], axis=0)


def _logit(probability: float) -> float:
    if probability in (0.0, 1.0):
        return math.inf if probability else -math.inf
    return math.log(probability / (1.0 - probability))
