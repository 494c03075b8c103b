"""The `tf.train.Example` of one image, written and read in one place; and that of TensorFlow Datasets, only read."""

from __future__ import annotations

import tensorflow as tf

from data_pipeline import image as image_lib
from data_pipeline import record as record_lib

_IMAGE = "image"
_NAME = "image_name"
_BOXES = "boxes"
_LANDMARKS = "landmarks"
_VISIBLE = "landmark_visible"
_IGNORED = "is_ignored"


def serialize(record: record_lib.Record, image_bytes: bytes) -> bytes:
    """Writes a record and its image file as a `tf.train.Example`; `parse` is the inverse."""
    features = {
        _IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image_bytes])),
        _NAME: tf.train.Feature(bytes_list=tf.train.BytesList(value=[record.image.encode()])),
        _BOXES: tf.train.Feature(float_list=tf.train.FloatList(value=record.boxes.ravel())),
        _LANDMARKS: tf.train.Feature(float_list=tf.train.FloatList(value=record.landmarks.ravel())),
        _VISIBLE: tf.train.Feature(int64_list=tf.train.Int64List(value=record.landmark_visible.ravel().astype(int))),
        _IGNORED: tf.train.Feature(int64_list=tf.train.Int64List(value=record.is_ignored.astype(int))),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Reads an example of `serialize` in the graph.

    Args:
        serialized: string scalar.

    Returns:
        `image_bytes` and `image_name`, string scalars, `boxes` float32 `[N, 4]`, xyxy, pixels, `landmarks` float32
        `[N, 5, 2]`, pixels, `landmark_visible` bool `[N, 5]`, `is_ignored` bool `[N]`.
    """
    values = tf.io.parse_single_example(
        serialized,
        {
            _IMAGE: tf.io.FixedLenFeature([], tf.string),
            _NAME: tf.io.FixedLenFeature([], tf.string),
            _BOXES: tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True),
            _LANDMARKS: tf.io.FixedLenSequenceFeature([5, 2], tf.float32, allow_missing=True),
            _VISIBLE: tf.io.FixedLenSequenceFeature([5], tf.int64, allow_missing=True),
            _IGNORED: tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        },
    )
    return {
        "image_bytes": values[_IMAGE],
        "image_name": values[_NAME],
        "boxes": values[_BOXES],
        "landmarks": values[_LANDMARKS],
        "landmark_visible": values[_VISIBLE] > 0,
        "is_ignored": values[_IGNORED] > 0,
    }


def parse_tfds(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Reads an example of the `wider_face` builder of TensorFlow Datasets, which need not be installed.

    Its boxes are shares of the image, (y1, x1, y2, x2), already cut to it. It has no landmarks.

    Args:
        serialized: string scalar.

    Returns:
        As `parse`.
    """
    values = tf.io.parse_single_example(
        serialized,
        {
            "image": tf.io.FixedLenFeature([], tf.string),
            "image/filename": tf.io.FixedLenFeature([], tf.string),
            "faces/bbox": tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True),
            "faces/invalid": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        },
    )
    height, width = tf.unstack(tf.cast(image_lib.size(values["image"]), tf.float32))
    y1, x1, y2, x2 = tf.unstack(values["faces/bbox"], axis=-1)
    boxes = tf.stack([x1 * width, y1 * height, x2 * width, y2 * height], axis=-1)
    # The images without faces have one of size zero here, as in the text they come from.
    has_area = (x2 > x1) & (y2 > y1)
    is_face = has_area | (tf.shape(boxes)[0] > 1)
    num_faces = tf.math.count_nonzero(is_face, dtype=tf.int32)
    return {
        "image_bytes": values["image"],
        "image_name": values["image/filename"],
        "boxes": tf.boolean_mask(boxes, is_face),
        "landmarks": tf.zeros([num_faces, 5, 2]),
        "landmark_visible": tf.zeros([num_faces, 5], tf.bool),
        "is_ignored": tf.boolean_mask((values["faces/invalid"] > 0) | ~has_area, is_face),
    }


def is_tfds(serialized: bytes) -> bool:
    """Tells whether an example was written by TensorFlow Datasets.

    Raises:
        ValueError: if it was written neither by that nor by `serialize`.
    """
    features = tf.train.Example.FromString(serialized).features.feature
    if _BOXES not in features and "faces/bbox" not in features and "image/filename" not in features:
        raise ValueError(f"expected the features of `example.serialize` or of wider_face. Received: {sorted(features)}")
    return "image/filename" in features
