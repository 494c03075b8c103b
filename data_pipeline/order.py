"""The order in which a training sees records that can be reached one by one."""

from __future__ import annotations

import tensorflow as tf

_WORD = 0x7FFFFFFF


def endless(num_records: int, seed: int, start: int, num_workers: int, worker: int) -> tf.data.Dataset:
    """Returns endless `(position, record)` pairs of a worker, int64 scalars; every epoch is a full shuffle of its own.

    Args:
        num_records: records of all workers together.
        seed: seed of the order; any int64.
        start: pairs of this worker to leave out, at no cost.
        num_workers: workers that share the records.
        worker: number of this worker.
    """
    words = tf.constant([seed & _WORD, (seed >> 31) & _WORD], tf.int32)
    last = tf.constant(num_records - 1, tf.int64)

    def draw(position):
        # Mixed first: of small sets the shuffle uses the low eight bits of its seeds only.
        key = tf.random.experimental.stateless_fold_in(words, position // num_records)
        mixed = tf.random.stateless_uniform([2], key, minval=None, maxval=None, dtype=tf.int32)
        return position, tf.random.experimental.index_shuffle(position % num_records, mixed, last)

    return tf.data.Dataset.range(start * num_workers + worker, tf.int64.max, num_workers).map(draw)
