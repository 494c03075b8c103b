"""Sums over the replicas of a distribution strategy, for what one of them cannot know alone."""

from __future__ import annotations

import tensorflow as tf


def count() -> int:
    """Returns how many replicas work in step: 1 without a strategy, and between replicas."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def total(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the sums of every replica's values; not inside a loop or a branch of the graph."""
    if count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
