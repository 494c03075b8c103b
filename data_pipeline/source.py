"""Where samples come from: annotation files in memory beside a folder of images."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipeline import record as record_lib
from data_pipeline import wider_face

_NO_END = tf.int64.max


class Source:
    """Records in memory, their images on disk.

    Attributes:
        num_records: images of all workers together.
    """

    def __init__(self, images: str, records: list[record_lib.Record]):
        if not records:
            raise ValueError("`annotations` must hold at least one image. Received: none")
        self.num_records = len(records)
        self._paths = [os.path.join(images, record.image) for record in records]
        self._names = [record.image for record in records]
        # One array of all faces and the row each image starts at: a list of arrays would be a constant each.
        self._starts = np.cumsum([0] + [record.num_faces for record in records])
        self._boxes = np.concatenate([record.boxes for record in records])
        self._landmarks = np.concatenate([record.landmarks for record in records])
        self._visible = np.concatenate([record.landmark_visible for record in records])
        self._is_ignored = np.concatenate([record.is_ignored for record in records])
        self._tensors = None

    def shuffled(self, seed: int, start: int, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns endless `(position, item)` pairs, every epoch in another order, after `start` items of a worker."""
        positions = tf.data.Dataset.range(start * num_workers + worker, _NO_END, num_workers)

        def draw(position):
            epoch = position // self.num_records
            index = tf.random.experimental.index_shuffle(
                position % self.num_records,
                tf.stack([tf.constant(seed, tf.int64), epoch]),
                tf.constant(self.num_records - 1, tf.int64),
            )
            return position, index

        return positions.map(draw)

    def in_order(self, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns `(position, item)` pairs of a worker, once, in the order of the annotations."""
        return tf.data.Dataset.range(worker, self.num_records, num_workers).map(lambda index: (index, index))

    def parse(self, item: tf.Tensor) -> dict[str, tf.Tensor]:
        """Reads an image's file, undecoded (`image_bytes`), and looks up its faces."""
        paths, names, starts, boxes, landmarks, visible, is_ignored = (
            tf.constant(values)
            for values in (
                self._paths,
                self._names,
                self._starts,
                self._boxes,
                self._landmarks,
                self._visible,
                self._is_ignored,
            )
        )
        rows = slice(starts[item], starts[item + 1])
        return {
            "image_bytes": tf.io.read_file(paths[item]),
            "image_name": names[item],
            "boxes": boxes[rows],
            "landmarks": landmarks[rows],
            "landmark_visible": visible[rows],
            "is_ignored": is_ignored[rows],
        }


def open(images: str, annotations: str, *, landmarks: str | None = None, on_bad_data: str = record_lib.FAIL) -> Source:
    """Opens annotations.

    Args:
        images: folder that the names in the annotations start from.
        annotations: WIDER FACE text or RetinaFace `label.txt`.
        landmarks: a second file whose landmarks are joined to the boxes of the first.
        on_bad_data: `fail` or `skip`.

    Returns:
        A source for `dataset.make_dataset`.
    """
    bad_data = record_lib.BadData(on_bad_data)
    records = wider_face.read(annotations, bad_data)
    if landmarks:
        records = record_lib.join_landmarks(records, wider_face.read(landmarks, bad_data))
    bad_data.report(len(records))
    logging.info("%s: %d images, %d faces", annotations, len(records), sum(record.num_faces for record in records))
    return Source(images, records)
