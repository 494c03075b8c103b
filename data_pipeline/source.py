"""Where samples come from, and in which order: annotation files beside a folder of images, or TFRecord shards."""

from __future__ import annotations

import glob
import os
from concurrent import futures
from typing import Union

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipeline import coco, example, image_check, order, shard, synthetic, wider_face
from data_pipeline import record as record_lib

_NO_END = tf.int64.max
# Files read at once, and records shuffled at once after that: about 100 MB.
_OPEN_FILES = 8
_BUFFER = 1024
_COCO_ENDING = ".json"


class RecordSource:
    """Records in memory, their images on disk; every epoch is a full shuffle.

    Attributes:
        num_records: images of all workers together.
        bad_data: what becomes of an image that cannot be decoded.
        paths: paths of the images.
    """

    def __init__(self, images: str, records: list[record_lib.Record], bad_data: record_lib.BadData | None = None):
        if not records:
            raise ValueError("`annotations` must hold at least one good image. Received: none")
        self.num_records = len(records)
        self.bad_data = bad_data or record_lib.BadData()
        self.paths = [os.path.join(images, record.image) for record in records]
        # One array of all faces and the row each image starts at; an array an image would be a constant each.
        self._tables = {
            "path": np.array(self.paths),
            "image_name": np.array([record.image for record in records]),
            "start": np.cumsum([0] + [record.num_faces for record in records]),
        }
        for key in ("boxes", "landmarks", "landmark_visible", "is_ignored"):
            self._tables[key] = np.concatenate([getattr(record, key) for record in records])

    def shuffled(self, seed: int, start: int, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns endless `(position, item)` pairs of a worker, every epoch in another order.

        Args:
            seed: seed of the order.
            start: items of this worker to leave out, at no cost.
            num_workers: workers that share the records.
            worker: number of this worker.
        """
        return order.endless(self.num_records, seed, start, num_workers, worker)

    def in_order(self, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns `(position, item)` pairs of a worker, once, in the order of the annotations."""
        return tf.data.Dataset.range(worker, self.num_records, num_workers).map(lambda index: (index, index))

    def parse(self, item: tf.Tensor) -> dict[str, tf.Tensor]:
        """Reads an image's file, undecoded (`image_bytes`), and looks up its faces."""
        tables = {key: tf.constant(table) for key, table in self._tables.items()}
        rows = slice(tables["start"][item], tables["start"][item + 1])
        return {
            "image_bytes": tf.io.read_file(tables["path"][item]),
            "image_name": tables["image_name"][item],
            "boxes": tables["boxes"][rows],
            "landmarks": tables["landmarks"][rows],
            "landmark_visible": tables["landmark_visible"][rows],
            "is_ignored": tables["is_ignored"][rows],
        }


class ShardSource:
    """TFRecord files; every epoch shuffles the files, mixes a few of them and shuffles records in a buffer.

    Attributes:
        num_records: images of all workers together.
        bad_data: what becomes of an image that cannot be decoded.
        paths: paths of images; none here.
    """

    def __init__(self, paths: list[str], bad_data: record_lib.BadData):
        self.bad_data, self.paths = bad_data, []
        paths = sorted(paths)
        logging.info("checking %.1f MB of TFRecords", sum(os.path.getsize(path) for path in paths) / 1e6)
        with futures.ThreadPoolExecutor() as pool:
            # A list of runs a file; a file without damage is one.
            self._shards = list(zip(paths, pool.map(lambda path: shard.find_runs(path, bad_data), paths)))
        self._shards = [(path, runs) for path, runs in self._shards if runs]
        self.num_records = sum(run.num_records for _, runs in self._shards for run in runs)
        if not self.num_records:
            raise ValueError(f"`annotations` must hold at least one good image. Received: {paths}")
        first, runs = self._shards[0]
        try:
            serialized = next(iter(_read_run(first, np.array(runs[0], np.int64)))).numpy()
            self._parse = example.parse_tfds if example.is_tfds(serialized) else example.parse
        except ValueError as error:
            raise ValueError(f"{first}: {error}") from None
        except tf.errors.DataLossError as error:
            raise ValueError(f"{first}: record 0: expected a whole record. Received: {error.message}") from None

    def shuffled(self, seed: int, start: int, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns endless `(position, item)` pairs of a worker; see `RecordSource.shuffled`.

        Records left out are read, but not decoded, and only those of the epoch that `start` falls into.
        """
        paths, runs, num_records = self._share(num_workers, worker)
        first_epoch, within = divmod(start, num_records)

        def read_epoch(epoch):
            seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
            rank = tf.argsort(tf.random.stateless_uniform([len(paths)], seeds))
            files = tf.data.Dataset.from_tensor_slices((tf.gather(paths, rank), tf.gather(runs, rank)))
            records = files.interleave(_read_run, cycle_length=_OPEN_FILES)
            mixed = tf.random.stateless_uniform([], seeds, maxval=tf.int64.max, dtype=tf.int64)
            return _shuffle(records, seed, mixed)

        endless = tf.data.Dataset.range(first_epoch, _NO_END).flat_map(read_epoch).skip(within)
        return endless.enumerate(start).map(lambda index, item: (index * num_workers + worker, item))

    def in_order(self, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns `(position, item)` pairs of a worker, once, in the order of the files."""
        paths, runs, _ = self._share(num_workers, worker)
        return tf.data.Dataset.from_tensor_slices((paths, runs)).flat_map(_read_run).enumerate()

    def parse(self, item: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes a serialized example apart; see `example.parse`."""
        return self._parse(item)

    def _share(self, num_workers: int, worker: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Returns the paths of a worker's runs, the runs as rows, and the number of their records."""
        rows = [(path, run) for path, runs in self._shards[worker::num_workers] for run in runs]
        if not rows:
            raise ValueError(
                f"`num_workers` must not pass the number of shards. "
                f"Received: num_workers={num_workers}, {len(self._shards)} shards"
            )
        paths, runs = np.array([path for path, _ in rows]), np.array([run for _, run in rows], np.int64)
        return paths, runs, sum(run.num_records for _, run in rows)


Source = Union[RecordSource, ShardSource]


def open(
    images: str | None,
    annotations: str | None,
    *,
    landmarks: str | None = None,
    on_bad_data: str = "fail",
    category: str | None = None,
) -> Source:
    """Opens annotations and checks that they and their images can be used.

    Args:
        images: folder that the names in the annotations start from; None for TFRecords, which hold the images;
            `synthetic:N` for N drawn images, which need no annotations.
        annotations: WIDER FACE text, RetinaFace `label.txt`, COCO JSON, a glob of TFRecords by `build_tfrecords` or by
            the `wider_face` builder of TensorFlow Datasets, or such a builder's folder (its training split).
        landmarks: a second annotation file whose landmarks are joined to the boxes of the first.
        on_bad_data: `fail` raises at the first fault, `skip` leaves the image out, counts and reports.
        category: category in COCO JSON, see `coco.read`; an error with anything else.

    Returns:
        A source for `dataset.make_dataset`.

    Raises:
        ValueError: if nothing is there, or at bad data.
    """
    bad_data = record_lib.BadData(on_bad_data)
    if images and images.startswith(synthetic.PREFIX):
        for name, value in (("annotations", annotations), ("landmarks", landmarks), ("category", category)):
            if value:
                raise ValueError(f"`{name}` must not be given with drawn images. Received: {name}={value!r}")
        return synthetic.open(images)
    if not isinstance(annotations, (str, os.PathLike)) or not annotations:
        raise ValueError(f"`annotations` must be a file or a glob of TFRecords. Received: annotations={annotations!r}")
    annotations = os.fspath(annotations)
    paths = _find_shards(annotations)
    if paths:
        if landmarks:
            raise ValueError(f"`landmarks` must be joined when TFRecords are built. Received: landmarks={landmarks!r}")
        if category:
            raise ValueError(f"`category` must be chosen when TFRecords are built. Received: category={category!r}")
        opened: Source = ShardSource(paths, bad_data)
        logging.info("%s: %d images in %d shards", annotations, opened.num_records, len(paths))
    else:
        records = read_records(images, annotations, landmarks, bad_data, category)
        opened = RecordSource(images, records, bad_data)
        num_faces, num_ignored = sum(r.num_faces for r in records), sum(int(r.is_ignored.sum()) for r in records)
        logging.info("%s: %d images, %d faces, %d of them ignored", annotations, len(records), num_faces, num_ignored)
    bad_data.report(opened.num_records)
    return opened


def read_records(
    images: str,
    annotations: str,
    landmarks: str | None,
    bad_data: record_lib.BadData,
    category: str | None = None,
) -> list[record_lib.Record]:
    """Reads, joins and checks the records of annotation files; arguments as for `open`."""
    if category and not any(path and is_coco(path) for path in (annotations, landmarks)):
        raise ValueError(f"`category` must be given with COCO JSON only. Received: {category!r} with {annotations}")
    records = _read_file_of_records(annotations, bad_data, category)
    if landmarks:
        records = record_lib.join_landmarks(records, _read_file_of_records(landmarks, bad_data, category))
    return image_check.check(images, records, bad_data)


def _shuffle(records: tf.data.Dataset, seed: int, mixed: tf.Tensor) -> tf.data.Dataset:
    """Shuffles records in a buffer by two int64 seeds; no other seed has a part in it."""
    # `Dataset.shuffle` mixes the global seed in, and where that is 0 asks in Python whether the tensor is 0 too.
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(records),
        buffer_size=tf.constant(_BUFFER, tf.int64),
        seed=tf.constant(seed, tf.int64),
        # Both 0 would mean a random order to the kernel.
        seed2=tf.maximum(mixed, 1),
        output_types=[tf.string],
        output_shapes=[[]],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def _read_run(path: tf.Tensor, run: tf.Tensor) -> tf.data.Dataset:
    """Reads the records of a `shard.Run`, int64 `[4]`."""
    count, before, length, behind = tf.unstack(run)
    # No reader of TFRecords begins in the middle of a file; this one can, and the checksum was compared before.
    single = tf.data.FixedLengthRecordDataset(path, tf.maximum(length, 1), before, behind)
    return tf.data.TFRecordDataset(path).take(count).concatenate(single.take(tf.cast(count == 0, tf.int64)))


def is_coco(path: str | os.PathLike) -> bool:
    """Returns whether annotations are taken for COCO JSON, in which a category can be chosen."""
    return str(path).endswith(_COCO_ENDING)


def _read_file_of_records(path: str, bad_data: record_lib.BadData, category: str | None) -> list[record_lib.Record]:
    if not os.path.isfile(path):
        raise ValueError(f"`annotations` must be a file, a glob of TFRecords or a builder's folder. Received: {path!r}")
    if is_coco(path):
        return coco.read(path, bad_data, category=category)
    return wider_face.read(path, bad_data)


def _find_shards(annotations: str) -> list[str]:
    if os.path.isdir(annotations):
        return glob.glob(os.path.join(glob.escape(annotations), "wider_face-train.tfrecord*"))
    if "tfrecord" not in os.path.basename(annotations) and not glob.has_magic(annotations):
        return []
    return [path for path in glob.glob(annotations) if os.path.isfile(path)]
