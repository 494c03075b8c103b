"""The detections of a data set, all images after another: stacked once, and what every protocol measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from keras_retinaface.inference import merging


@dataclasses.dataclass(frozen=True)
class Table:
    """Detections by image.

    Attributes:
        names: "event/image" without extension; image `i` owns rows `offsets[i]:offsets[i + 1]`.
        offsets: int64 `[images + 1]`.
        rows: detections, float64, finite, of all images.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    rows: merging.Detections

    def best_first(self) -> Table:
        """Brings the detections of every image into the order of their scores; equal ones stay as they are."""
        scores, order = self.rows.scores, np.arange(self.offsets[-1])
        for first, end in zip(self.offsets, self.offsets[1:]):
            own = scores[first:end]
            if np.any(own[1:] > own[:-1]):
                order[first:end] = first + np.argsort(-own, kind="stable")
        is_ordered = np.all(order[1:] > order[:-1])
        return self if is_ordered else dataclasses.replace(self, rows=self.rows.select(order))

    def head(self, num: int) -> Table:
        """Takes the first `num` detections of every image."""
        counts = np.diff(self.offsets)
        rank = np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1], counts)
        return Table(self.names, to_offsets(np.minimum(counts, num)), self.rows.select(rank < num))

    def select(self, names: Collection[str]) -> Table:
        """Takes some images, in the order that they have here; names of others are passed over."""
        images, rows, offsets = cut(self.names, self.offsets, names)
        return Table(tuple(self.names[i] for i in images), offsets, self.rows.select(rows))


def stack(predictions: Mapping[str, merging.Detections], names: Sequence[str]) -> Table:
    """Lays the detections of images after another.

    Args:
        predictions: detections by "event/image"; an image that is not there has none.
        names: names of the images, in the order wanted.

    Raises:
        ValueError: if a box or a score is not finite.
    """
    parts = [predictions.get(name, _NOTHING) for name in names]
    boxes = np.concatenate([_NOTHING.boxes, *(np.asarray(part.boxes, np.float64) for part in parts)])
    scores = np.concatenate([_NOTHING.scores, *(np.asarray(part.scores, np.float64) for part in parts)])
    offsets = to_offsets(np.array([len(part.boxes) for part in parts], np.int64))
    is_finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    if not is_finite.all():
        row = int(np.argmin(is_finite))
        name = names[int(np.searchsorted(offsets[1:], row, side="right"))]
        received = [*boxes[row].tolist(), float(scores[row])]
        raise ValueError(f"`predictions` must be finite. Received: {received} for {name}")
    return Table(tuple(names), offsets, merging.Detections(boxes, scores, None))


def to_offsets(counts: np.ndarray) -> np.ndarray:
    """Returns where the rows of each image begin, and the end, int64 `[images + 1]`; from rows an image `[images]`."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def cut(
    names: Sequence[str], offsets: np.ndarray, wanted: Collection[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the rows of some images in a table of all.

    Args:
        names: names of all images.
        offsets: int64 `[images + 1]`; image `i` owns rows `offsets[i]:offsets[i + 1]`.
        wanted: names of those to keep.

    Returns:
        The images that are kept, int64 `[kept]`; whether a row is theirs, bool `[rows]`; their own offsets.
    """
    wanted, counts = set(wanted), np.diff(offsets)
    is_kept = np.array([name in wanted for name in names], bool)
    return np.flatnonzero(is_kept), np.repeat(is_kept, counts), to_offsets(counts[is_kept])


_NOTHING = merging.Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
