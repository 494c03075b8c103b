"""Sums over the replicas of a distribution strategy and over workers, for what one of them cannot know alone.

Replicas are what a strategy makes of a model. Workers are processes that each hold a whole model, of which Keras knows
nothing: it is how several machines train under Keras 3, whose `fit` does not take a strategy of several processes. They
stay equal because they add up their gradients before the update and average what a step changes beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import tensorflow as tf

# What the workers talk through; as with TensorFlow's own strategies, a process has one.
_workers: tf.distribute.Strategy | None = None


@contextlib.contextmanager
def joined(workers: tf.distribute.Strategy) -> Iterator[None]:
    """Lets everything inside count and sum over workers too.

    Args:
        workers: one replica in each process. No variable is made in its scope; it only carries sums.
    """
    global _workers
    _workers = workers
    try:
        yield
    finally:
        _workers = None


def has_workers() -> bool:
    """Returns whether the model is one of several that other processes hold."""
    return _workers is not None


def count() -> int:
    """Returns how many replicas of all workers work in step: 1 without a strategy, and between replicas."""
    return _own_count() * (_workers.num_replicas_in_sync if _workers else 1)


def _own_count() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def total(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the sums of every replica's values; not inside a loop or a branch of the graph."""
    return total_of_workers(total_of_strategy(values))


def total_of_strategy(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the sums over a strategy's replicas, of values that workers have already added up."""
    if _own_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def total_of_workers(values):
    """Returns the sums of every worker's values, a structure; without workers the values themselves."""
    if _workers is None:
        return values

    @tf.autograph.experimental.do_not_convert
    def add(*tensors):
        # Made again in here, because sums are made on the device that the values are on, and arguments have none.
        own = [tf.identity(tensor) for tensor in tensors]
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

    tensors = tf.nest.flatten(values)
    return tf.nest.pack_sequence_as(values, _workers.run(add, args=tensors) if tensors else [])


def equalise(variables: Iterable) -> None:
    """Sets variables that every worker changes by itself, such as running means, to their mean over the workers."""
    if _workers is None:
        return
    variables = list(variables)
    for variable, whole in zip(variables, total_of_workers([tf.convert_to_tensor(item) for item in variables])):
        variable.assign(whole / tf.cast(_workers.num_replicas_in_sync, whole.dtype))


def follow_first(variables: Iterable) -> None:
    """Sets variables to what the first worker holds."""
    if _workers is None:
        return
    is_first = _workers.cluster_resolver.task_id == 0
    variables = list(variables)
    own = [tf.convert_to_tensor(variable) for variable in variables]
    shares = own if is_first else [tf.zeros_like(value) for value in own]
    for variable, value in zip(variables, tf.function(total_of_workers, autograph=False)(shares)):
        variable.assign(value)
