import collections

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import build_tfrecords, dataset, source, wider_face
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import matcher

CONFIG = config_lib.Config().replace(image_size=(64, 64), batch_size=3, seed=5)
KINDS = ["records", "shards"]


@pytest.fixture
def opened(folder):
    def make(kind):
        if kind == "records":
            return source.open(str(folder / "images"), str(folder / "label.txt"))
        records = wider_face.read(str(folder / "label.txt"))
        build_tfrecords.build(str(folder / "images"), records, str(folder / "records"), 4)
        return source.open(None, str(folder / "records-*"))

    return make


def _names(batches):
    return [name.decode() for _, targets in batches for name in targets["image_name"].numpy()]


def _order(annotations, num, *, seed=5, start=0, num_workers=1, worker=0):
    """Returns positions and names of the images in the order of training."""
    raw = annotations.shuffled(seed, start, num_workers, worker).take(num)
    pairs = list(raw.map(lambda position, item: (position, annotations.parse(item)["image_name"])))
    return [int(position) for position, _ in pairs], [name.numpy() for _, name in pairs]


def _assert_equal_batches(one, other):
    for (image, targets), (other_image, other_targets) in zip(one, other):
        np.testing.assert_array_equal(image, other_image)
        for key in targets:
            np.testing.assert_array_equal(targets[key], other_targets[key])


def test_batches_are_what_the_losses_want(folder):
    batches = dataset.make_dataset(CONFIG, str(folder / "images"), str(folder / "label.txt"))
    assert batches.num_records == 13
    num_anchors = 2 * (8 * 8 + 4 * 4 + 2 * 2)
    seen = collections.Counter()
    for image, targets in batches.take(9):
        assert (image.shape, image.dtype) == ((3, 64, 64, 3), tf.uint8)
        shapes = {key: value.shape[2:].as_list() for key, value in targets.items()}
        assert shapes == {
            "state": [],
            "box_deltas": [4],
            "landmark_deltas": [5, 2],
            "landmark_weight": [5],
            "matched_box": [4],
        }
        assert all(value.shape[:2] == (3, num_anchors) and np.isfinite(value).all() for value in targets.values())
        seen.update(targets["state"].numpy().ravel().tolist())
    assert set(seen) == {matcher.POSITIVE, matcher.NEGATIVE, matcher.IGNORED}


@pytest.mark.parametrize("kind", KINDS)
def test_every_epoch_has_every_image_once_in_another_order(opened, kind):
    positions, names = _order(opened(kind), 39)
    assert positions == list(range(39))
    epochs = [names[:13], names[13:26], names[26:]]
    assert all(len(set(epoch)) == 13 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_and_the_start_decide_the_order(opened, kind):
    annotations = opened(kind)
    pairs = list(zip(*_order(annotations, 39)))
    assert pairs == list(zip(*_order(annotations, 39)))
    assert pairs != list(zip(*_order(annotations, 39, seed=6)))
    for start in (1, 13, 30):
        assert pairs[start:] == list(zip(*_order(annotations, 39 - start, start=start)))


@pytest.mark.parametrize("kind", KINDS)
def test_workers_share_the_images(opened, kind):
    annotations = opened(kind)
    halves = [_order(annotations, 13, num_workers=2, worker=worker) for worker in range(2)]
    # Positions are the seeds of augmentation, so no two may be the same.
    assert sorted(halves[0][0] + halves[1][0]) == list(range(26))
    counts = collections.Counter(halves[0][1] + halves[1][1])
    # Of shards, halves of six and seven images come round 13 / 6 and 13 / 7 times.
    assert len(counts) == 13 and set(counts.values()) <= ({2} if kind == "records" else {1, 2, 3})
    in_order = [list(annotations.in_order(2, worker)) for worker in range(2)]
    assert sorted(len(half) for half in in_order) == [6, 7]


def test_the_seed_decides_the_pixels_whatever_the_number_of_calls(opened):
    annotations = opened("records")
    one, other = (dataset.make_dataset(CONFIG, None, annotations) for _ in range(2))
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    _assert_equal_batches(one.take(6), other.with_options(options).take(6))
    different = dataset.make_dataset(CONFIG, None, annotations, seed=6)
    assert (next(iter(one))[0].numpy() != next(iter(different))[0].numpy()).any()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mosaic"), [("records", 0.5), ("shards", 0.5), ("shards", 0.0)])
def test_a_restarted_run_goes_on(opened, kind, mosaic):
    annotations, config = opened(kind), CONFIG.replace(mosaic_probability=mosaic)
    whole = list(dataset.make_dataset(config, None, annotations, with_names=True).take(7))
    # Over the end of the first epoch, and from the middle of a mosaic's group of four.
    rest = dataset.make_dataset(config, None, annotations, with_names=True, start_step=3)
    _assert_equal_batches(whole[3:], rest.take(4))


def test_more_workers_than_shards_is_an_error(opened):
    with pytest.raises(ValueError, match="`num_workers` must not pass the number of shards. .*num_workers=5, 4 shards"):
        dataset.make_dataset(CONFIG, None, opened("shards"), num_workers=5, worker=4)


def test_validation_is_in_order_whole_and_once(opened):
    batches = dataset.make_dataset(CONFIG, None, opened("records"), training=False, with_names=True)
    assert _names(batches) == [f"event/{index:02d}.jpg" for index in range(13)]
    _, targets = next(iter(batches))
    assert not (targets["state"][0].numpy() == matcher.POSITIVE).any()
    assert (targets["state"][1].numpy() == matcher.POSITIVE).any()


def test_bad_data_fails_or_is_skipped_and_counted(folder, caplog):
    (folder / "images" / "event" / "04.jpg").unlink()
    with pytest.raises(ValueError, match=r"label.txt:\d+: .*04.jpg: expected a whole image. Received: 'no such file'"):
        dataset.make_dataset(CONFIG, str(folder / "images"), str(folder / "label.txt"))
    batches = dataset.make_dataset(CONFIG, str(folder / "images"), str(folder / "label.txt"), on_bad_data="skip")
    assert batches.num_records == 12
    assert "skipped 1 of 13 images for 1 faults" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be 1 or more .* Received: batch_size=0, start_step=0"),
        ({"worker": 1}, r"`worker` must be in \[0, num_workers\). Received: worker=1, num_workers=1"),
    ],
)
def test_settings_out_of_range(opened, settings, message):
    with pytest.raises(ValueError, match=message):
        dataset.make_dataset(CONFIG, None, opened("records"), **settings)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match="`annotations` must be a file, .* Received: 'nowhere.txt'"):
        dataset.make_dataset(CONFIG, "images", "nowhere.txt")


@pytest.mark.parametrize("kind", KINDS)
def test_data_service_uses_every_image_once_an_epoch(opened, kind):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    address = dispatcher.target.split("://")[1]
    workers = [service.WorkerServer(service.WorkerConfig(dispatcher_address=address)) for _ in range(2)]
    batches = dataset.make_dataset(
        CONFIG, None, opened(kind), batch_size=1, with_names=True, data_service=dispatcher.target
    )
    counts = collections.Counter(_names(batches.take(39)))
    assert len(workers) == 2 and len(counts) == 13
