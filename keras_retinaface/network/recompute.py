"""Gradient checkpointing of a chain of blocks: keeps what stands between blocks and computes the rest twice."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import keras
import tensorflow as tf


class Segments:
    """A functional model cut where it is one tensor wide; the gradient computes each piece but the last again.

    A plain object, so that Keras does not take the pieces, which share the model's layers, for layers of its own.

    Args:
        model: a functional model of one input and a dict of outputs.
        cuts: names of layers, in order; each depends on the input through the one before only.
        used: those of them that the outputs are computed from.
        uses_input: whether outputs are also computed from the input past all cuts, as a dense head's tower does.
    """

    def __init__(self, model: keras.Model, cuts: Sequence[str], used: Sequence[str], *, uses_input: bool = False):
        tensors = {name: model.get_layer(name).output for name in cuts}
        starts = [model.inputs[0], *tensors.values()]
        blocks = [keras.Model(start, end) for start, end in zip(starts, tensors.values())]
        self._cuts, self._used, self._uses_input = tuple(cuts), tuple(used), uses_input
        self._blocks = [_recomputed(block) for block in blocks]
        sources = [tensors[name] for name in used] + ([model.inputs[0]] if uses_input else [])
        self._rest = keras.Model(sources, dict(zip(model.output_names, model.outputs)))

    def __call__(self, inputs: tf.Tensor) -> dict:
        """Computes the model's outputs for training."""
        values, x = {}, inputs
        for name, block in zip(self._cuts, self._blocks):
            x = values[name] = block(x)
        sources = [values[name] for name in self._used] + ([inputs] if self._uses_input else [])
        return self._rest(sources, training=True)


def _recomputed(block: keras.Model):
    """Returns the block as a function whose gradient runs it again, with norms that do not learn twice."""
    is_forward = False

    @tf.recompute_grad
    def call(x):
        with contextlib.nullcontext() if is_forward else _still_norms(block):
            return block(x, training=True)

    def forward(x):
        nonlocal is_forward
        is_forward = True
        try:
            return call(x)
        finally:
            is_forward = False

    return forward


@contextlib.contextmanager
def _still_norms(block: keras.Model):
    norms = [layer for layer in block.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
