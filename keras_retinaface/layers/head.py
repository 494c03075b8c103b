"""The 1x1 convolutions that turn pyramid levels into one row of numbers per anchor."""

from __future__ import annotations

import keras

from keras_retinaface.geometry import landmark, mesh_code

# Numbers per anchor of each output.
SHAPES = {"scores": (2,), "box_deltas": (4,), "landmark_deltas": (landmark.NUM_LANDMARKS, 2)}
# Only where the model has a dense head.
DENSE_SHAPE = (mesh_code.SIZE,)
# How the layers of each output are named.
PREFIXES = {"scores": "class", "box_deltas": "box", "landmark_deltas": "landmark", "mesh_code": "dense"}


def build(levels: dict, num_anchors: int, *, use_shared_heads: bool, dense_levels: dict | None = None) -> dict:
    """Builds the outputs of a model.

    Args:
        levels: feature maps by name, finest first.
        num_anchors: anchors on one location.
        use_shared_heads: one convolution an output for all levels, or one per level.
        dense_levels: feature maps that the dense head looks at, by name; None for no dense head.

    Returns:
        `scores` `[B, A, 2]` (logits of background and face), `box_deltas` `[B, A, 4]` and `landmark_deltas`
        `[B, A, 5, 2]`, with a dense head `mesh_code` `[B, A, 144]`; anchors in the order of
        `anchor.generate`, float32 under mixed precision too.
    """
    outputs = {}
    for key, shape in {**SHAPES, **({"mesh_code": DENSE_SHAPE} if dense_levels else {})}.items():
        prefix, rows = PREFIXES[key], []
        per_anchor = shape[0] * (shape[1] if len(shape) > 1 else 1)
        head = None
        for name, x in (dense_levels if key == "mesh_code" else levels).items():
            if head is None or not use_shared_heads:
                suffix = "head" if use_shared_heads else name
                # Logits and offsets lose too much in half precision.
                # Zeros are the mean face where the other heads see it, the start that `mesh.dense_loss` is made for.
                initial = "zeros" if key == "mesh_code" else "glorot_uniform"
                head = keras.layers.Conv2D(
                    num_anchors * per_anchor,
                    1,
                    kernel_initializer=initial,
                    dtype="float32",
                    name=f"{prefix}_{suffix}",
                )
            rows.append(keras.layers.Reshape((-1, *shape), dtype="float32", name=f"{prefix}_rows_{name}")(head(x)))
        if len(rows) == 1:
            outputs[key] = keras.layers.Identity(dtype="float32", name=key)(rows[0])
        else:
            outputs[key] = keras.layers.Concatenate(axis=1, dtype="float32", name=key)(rows)
    return outputs
