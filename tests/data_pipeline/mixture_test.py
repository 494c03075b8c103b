import collections
import re

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import dataset, example, mixture, source, wider_face
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import matcher


@pytest.fixture(scope="module")
def parts(folder, tmp_path_factory):
    """Two images as files, the five others as TFRecords, one of them alone as files again."""
    path = tmp_path_factory.mktemp("parts")
    records = wider_face.read(str(folder / "label.txt"))
    lines = (folder / "label.txt").read_text().split("# ")[1:]
    (path / "two.txt").write_text("".join(f"# {text}" for text in lines[:2]))
    (path / "one.txt").write_text(f"# {lines[2]}")
    with tf.io.TFRecordWriter(str(path / "rest.tfrecord")) as writer:
        for record in records[3:]:
            writer.write(example.serialize(record, (folder / record.image).read_bytes()))
    return [
        source.open(str(folder), str(path / "two.txt")),
        source.open(None, str(path / "rest.tfrecord")),
        source.open(str(folder), str(path / "one.txt")),
    ]


def _names(opened, num, seed=0, start=0, num_workers=1, worker=0):
    items = (
        opened.shuffled(seed, start, num_workers, worker)
        .take(num)
        .map(lambda position, item: (position, opened.parse(item)["image_name"]))
    )
    return [(int(position), name.numpy().decode()) for position, name in items]


@pytest.fixture
def small_blocks(monkeypatch):
    """Lets shares be exact over twenty samples, so that few need be drawn."""
    monkeypatch.setattr(mixture, "_BLOCK", 20)


def test_shares_are_exact_and_every_image_of_a_source_is_seen_as_often(parts, small_blocks):
    mixed = mixture.Mixture(parts, [0.5, 3, 1.5])
    assert mixed.num_records == 7
    names = [name for _, name in _names(mixed, 40)]
    count = collections.Counter(names)
    assert count["2.jpg"] == 12
    assert count["0.jpg"] == count["1.png"] == 2
    assert [count[name] for name in ("3.png", "4.jpg", "5.png", "6.jpg")] == [6] * 4
    # Blocks are alike in number, not in order.
    assert [name == "2.jpg" for name in names[:20]] != [name == "2.jpg" for name in names[20:]]


def test_every_start_continues_and_workers_do_not_share_positions(parts, small_blocks):
    mixed = mixture.Mixture(parts, [1, 2, 1])
    order = _names(mixed, 46, 5)
    assert [position for position, _ in order] == list(range(46))
    for start in (1, 20, 37):
        assert _names(mixed, 46 - start, 5, start) == order[start:]
    assert _names(mixed, 20, seed=6) != order[:20]
    files = mixture.Mixture([parts[0], parts[2]], [1, 2])
    other = _names(files, 24, 5, 0, num_workers=2, worker=1)
    assert [position for position, _ in other] == list(range(1, 48, 2))
    assert _names(files, 3, 5, 21, num_workers=2, worker=1) == other[21:]


def test_batches_of_a_mixture(parts):
    config = config_lib.Config().replace(image_size=(64, 64), batch_size=3, mosaic_probability=0.5)
    images, targets = next(iter(dataset.make_dataset(config, None, mixture.Mixture(parts, [1, 1, 1]))))
    assert images.shape == (3, 64, 64, 3) and set(np.unique(targets["state"])) <= {-1, 0, matcher.POSITIVE}


def test_the_faces_themselves_where_outputs_decide(parts):
    config = config_lib.Config().replace(image_size=(96, 96), batch_size=4, assignment="dynamic")
    _, targets = next(iter(dataset.make_dataset(config, None, mixture.Mixture(parts, [1, 1, 1]))))
    assert set(targets) == {"faces", "face_landmarks", "landmark_visible", "is_ignored", "num_faces"}
    most = int(targets["num_faces"].numpy().max())
    assert targets["faces"].shape == (4, most, 4) and targets["is_ignored"].shape == (4, most)
    assert (targets["num_faces"].numpy() > 0).any()


@pytest.mark.parametrize(
    "shares, message",
    [
        ([1, 2], "`train_shares` must hold one positive number for each of 3 sources. Received: 1,2"),
        ([1, 0, 1], "one positive number for each of 3 sources. Received: 1,0,1"),
        ([1, float("nan"), 1], "Received: 1,nan,1"),
        ([1, 1, 1e-5], "`train_shares` must each be a thousandth of all or more. Received: 1,1,1e-05"),
    ],
)
def test_shares_that_do_not_fit(parts, shares, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mixture.Mixture(parts, shares)
