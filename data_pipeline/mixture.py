"""Several sources as one, each with its share of the samples; which order each has within itself is its own affair."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from data_pipeline import source

# Samples over which the shares are exact.
_BLOCK = 1000
_WORD = 0x7FFFFFFF
# Sources of one size must not be shuffled alike.
_SEED_STEP = 0x5851F42D


class Mixture:
    """A source for training that takes samples from others by their shares.

    Each of a thousand samples comes from the same sources in another order, and each source goes through its own images
    epoch by epoch, so that every image of a source is seen equally often. Where a training goes on is worked out, not
    searched for.

    Args:
        sources: as from `source.open`.
        shares: shares of the samples, one positive number a source; they need not add up to 1.

    Attributes:
        num_records: images of all sources.
        bad_data: what becomes of an image of any source that cannot be decoded.
        paths: paths of the images of all sources that have files of their own.

    Raises:
        ValueError: if the shares do not fit.
    """

    def __init__(self, sources: Sequence[source.Source], shares: Sequence[float]):
        if len(shares) != len(sources) or not all(0 < share < float("inf") for share in shares):
            raise ValueError(
                f"`train_shares` must hold one positive number for each of {len(sources)} sources. "
                f"Received: {','.join(map(str, shares))}"
            )
        self._sources = list(sources)
        self._slots = _slots(shares)
        self.num_records = sum(opened.num_records for opened in sources)
        # Drawn images, which cannot fail, do not know what was wanted of the others.
        self.bad_data = next((opened.bad_data for opened in sources if opened.bad_data.skips), sources[0].bad_data)
        self.paths = [path for opened in sources for path in getattr(opened, "paths", [])]

    def shuffled(self, seed: int, start: int, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns endless `(position, item)` pairs of a worker; see `source.RecordSource.shuffled`."""
        draw = functools.partial(_draw, self._slots, seed, worker)
        blocks, rest = divmod(start, _BLOCK)
        with tf.init_scope():  # numbers, wherever the dataset is built
            drawn = tf.map_fn(draw, tf.range(start - rest, start, dtype=tf.int64)).numpy().tolist()
        items = []
        for number, (opened, slots) in enumerate(zip(self._sources, self._slots)):
            done = blocks * slots + drawn.count(number)
            of_source = opened.shuffled(seed + number * _SEED_STEP, done, num_workers, worker)
            items.append(of_source.map(functools.partial(_tagged, number)))
        choice = tf.data.Dataset.range(start, tf.int64.max).map(draw)
        mixed = tf.data.Dataset.choose_from_datasets(items, choice)
        return mixed.enumerate(start).map(lambda index, item: (index * num_workers + worker, item))

    def parse(self, item: tf.Tensor) -> dict[str, tf.Tensor]:
        """Lets the source of an item parse it."""
        branches = [functools.partial(_parse, opened, item[1]) for opened in self._sources]
        return tf.switch_case(tf.strings.to_number(item[0], tf.int32), branches)


def _slots(shares: Sequence[float]) -> list[int]:
    """Rounds shares to whole samples of a block, the largest remainders up."""
    exact = [share * _BLOCK / sum(shares) for share in shares]
    slots = [int(number) for number in exact]
    by_remainder = sorted(range(len(shares)), key=lambda number: slots[number] - exact[number])
    for number in by_remainder[: _BLOCK - sum(slots)]:
        slots[number] += 1
    if not all(slots):
        raise ValueError(
            f"`train_shares` must each be a thousandth of all or more. Received: {','.join(map(str, shares))}"
        )
    return slots


def _draw(slots: list[int], seed: int, worker: int, index: tf.Tensor) -> tf.Tensor:
    """Returns the source of a worker's sample `index`, int64 scalars."""
    words = tf.constant([seed & _WORD, (seed >> 31) & _WORD], tf.int32)
    key = tf.random.experimental.stateless_fold_in(words, index // _BLOCK)
    key = tf.random.stateless_uniform(
        [2], tf.random.experimental.stateless_fold_in(key, worker), minval=None, maxval=None, dtype=tf.int32
    )
    place = tf.random.experimental.index_shuffle(index % _BLOCK, key, tf.constant(_BLOCK - 1, tf.int64))
    ends = tf.cumsum(tf.constant(slots, tf.int64))
    return tf.searchsorted(ends, [place], side="right", out_type=tf.int64)[0]


def _tagged(number: int, _, item: tf.Tensor) -> tf.Tensor:
    """Makes items of all kinds of sources alike: number of the source and what it wants, as strings."""
    return tf.stack([str(number), item if item.dtype == tf.string else tf.strings.as_string(item)])


def _parse(opened: source.Source, text: tf.Tensor) -> dict[str, tf.Tensor]:
    return opened.parse(text if isinstance(opened, source.ShardSource) else tf.strings.to_number(text, tf.int64))
