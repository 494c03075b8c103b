"""Gradient checkpointing of a chain of blocks: training keeps what stands between blocks and computes the rest again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import keras
import tensorflow as tf


class Segments:
    """A functional model cut at layers where it is one tensor wide; each piece but the last is computed again.

    A plain object, so that Keras does not take the pieces, which share the model's layers, for layers of its own.

    Args:
        model: a functional model with a dict of outputs.
        cuts: names of layers in order, each output depending on the model's input through the one before only. What
            follows the last cut may depend on all of them.
    """

    def __init__(self, model: keras.Model, cuts: Sequence[str]):
        tensors = [model.get_layer(name).output for name in cuts]
        starts = [model.inputs[0], *tensors[:-1]]
        self._blocks = [keras.Model(start, end) for start, end in zip(starts, tensors)]
        # The rest may take the output of any block, and a model may not have inputs it does not use.
        rest = [layer for layer in model.layers if layer not in {x for block in self._blocks for x in block.layers}]
        self._used = [index for index, tensor in enumerate(tensors) if _feeds(tensor, rest)]
        self._rest = keras.Model([tensors[index] for index in self._used], dict(zip(model.output_names, model.outputs)))
