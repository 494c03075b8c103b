import pathlib

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import example, record, source

TFDS = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "tfds_wider_face"


def _record(num_faces):
    rng = np.random.default_rng(num_faces)
    return record.Record(
        image="event/ä.jpg",
        boxes=rng.uniform(0, 99, (num_faces, 4)).astype(np.float32),
        landmarks=rng.uniform(0, 99, (num_faces, 5, 2)).astype(np.float32),
        landmark_visible=rng.random((num_faces, 5)) < 0.5,
        is_ignored=rng.random(num_faces) < 0.5,
    )


@pytest.mark.parametrize("num_faces", [0, 1, 40])
def test_parse_inverts_serialize(num_faces):
    original = _record(num_faces)
    parse = tf.function(example.parse)
    parsed = parse(tf.constant(example.serialize(original, b"\xff\xd8 pixels")))
    assert parsed["image_bytes"].numpy() == b"\xff\xd8 pixels"
    assert parsed["image_name"].numpy().decode() == original.image
    for key in ("boxes", "landmarks", "landmark_visible", "is_ignored"):
        np.testing.assert_array_equal(parsed[key], getattr(original, key))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_tensorflow_datasets_builder(split):
    opened = source.open(None, str(TFDS / f"wider_face-{split}.tfrecord*"))
    samples = {}
    for _, item in opened.in_order(1, 0):
        sample = opened.parse(item)
        samples[sample["image_name"].numpy().decode()] = sample
    assert opened.num_records == 3
    first = samples["0--Parade/a.jpg"]
    np.testing.assert_allclose(first["boxes"], [[10, 20, 40, 40], [50, 5, 58, 21]], atol=1e-4)
    np.testing.assert_array_equal(first["is_ignored"], [False, True])
    assert samples["0--Parade/b.jpg"]["boxes"].shape == (0, 4)
    assert not samples["1--Handshaking/c.jpg"]["landmark_visible"].numpy().any()


def test_a_builders_folder_is_its_training_split():
    assert source.open(None, str(TFDS)).num_records == 3
