import itertools
import re

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import dataset, example, shard, source, wider_face
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, landmark, matcher
from tests import pictures

_CONFIG = config_lib.Config().replace(image_size=(96, 96), batch_size=2, blur_probability=0.3, jpeg_probability=0.3)
_NUM = 7


@pytest.fixture(scope="session")
def shards(folder, tmp_path_factory):
    """A glob of three TFRecord files with the images of `folder`."""
    path = str(tmp_path_factory.mktemp("records") / "train")
    records = wider_face.read(str(folder / "label.txt"))
    for index in range(3):
        with tf.io.TFRecordWriter(shard.name(path, index, 3)) as writer:
            for record in records[index::3]:
                writer.write(example.serialize(record, (folder / record.image).read_bytes()))
    return path + "-*"


@pytest.fixture(params=["files", "shards"])
def opened(request, folder):
    if request.param == "files":
        return source.open(str(folder), str(folder / "label.txt"))
    return source.open(None, request.getfixturevalue("shards"))


def _take(num, opened, config=_CONFIG, **options):
    """Returns batches as flat dicts of arrays, the image and its name among them."""
    batches = dataset.make_dataset(config, None, opened, with_names=True, **options)
    return [
        {"image": image.numpy(), **{key: value.numpy() for key, value in targets.items()}}
        for image, targets in itertools.islice(batches, num)
    ]


def _names(batches):
    return [name.decode() for batch in batches for name in batch["image_name"]]


def _assert_equal(batches, others):
    assert len(batches) == len(others) > 0
    for batch, other in zip(batches, others):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def _order(opened, num, seed=0, start=0, num_workers=1, worker=0):
    """Returns positions and names of samples, without augmenting them."""
    items = opened.shuffled(seed, start, num_workers, worker).take(num)
    return [(int(position), opened.parse(item)["image_name"].numpy().decode()) for position, item in items]


@pytest.mark.slow
def test_same_seed_same_batches_whatever_the_parallelism(folder, monkeypatch):
    opened = source.open(str(folder), str(folder / "label.txt"))
    batches = _take(4, opened, seed=3)
    assert opened.num_records == _NUM
    monkeypatch.setattr(tf.data, "AUTOTUNE", 1)
    # The default is the config's seed.
    _assert_equal(_take(4, opened, _CONFIG.replace(seed=3)), batches)


def test_another_seed_another_order(opened):
    orders = [tuple(_order(opened, 3 * _NUM, seed)) for seed in (3, 4, 3 + (1 << 40), -3)]
    assert len(set(orders)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "shards"])
def test_a_later_start_continues(kind, folder, shards):
    opened = source.open(str(folder), str(folder / "label.txt") if kind == "files" else shards)
    # 15 samples are two epochs and one image.
    config = _CONFIG.replace(batch_size=3)
    _assert_equal(_take(2, opened, config, start_step=5), _take(7, opened, config)[5:])


def test_a_later_start_continues_within_the_groups_of_a_mosaic(folder):
    opened = source.open(str(folder), str(folder / "label.txt"))

    def groups(num, start):
        raw = dataset._shuffled(opened, True, 0, start, 1, 0).take(num)
        return [(int(position), items.numpy().tolist()) for position, items in raw]

    order = groups(20, 0)
    for start in (1, 6, 8, 15):
        assert groups(20 - start, start) == order[start:]
    # Each item leads one sample, and the same four make each of the four samples of a group.
    assert [items[0] for _, items in order] == [int(item) for _, item in opened.shuffled(0, 0, 1, 0).take(20)]
    for first in range(0, 20, 4):
        assert len({tuple(sorted(items)) for _, items in order[first : first + 4]}) == 1


def test_every_start_continues(opened):
    order = _order(opened, 4 * _NUM)
    for start in (1, _NUM - 1, _NUM, 3 * _NUM + 2):
        assert _order(opened, 4 * _NUM - start, start=start) == order[start:]


def test_every_epoch_holds_every_image_once_in_another_order(opened):
    names = [name for _, name in _order(opened, 4 * _NUM)]
    epochs = [names[start : start + _NUM] for start in range(0, 4 * _NUM, _NUM)]
    assert all(len(set(epoch)) == _NUM for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 2


def test_an_image_looks_different_every_time(folder):
    opened = source.open(str(folder), str(folder / "label.txt"))
    batches = _take(_NUM, opened)
    images = [image.tobytes() for batch in batches for image in batch["image"]]
    assert len(set(images)) == len(images) == 2 * _NUM


def test_workers_share_the_images(folder, shards):
    files = source.open(str(folder), str(folder / "label.txt"))
    shares = [_order(files, _NUM, num_workers=2, worker=worker) for worker in (0, 1)]
    assert [sample for pair in zip(*shares) for sample in pair] == _order(files, 2 * _NUM)
    records = source.open(None, shards)
    parts = []
    for worker in range(3):
        items = records.in_order(3, worker)
        parts.append([records.parse(item)["image_name"].numpy().decode() for _, item in items])
        epoch = _order(records, len(parts[-1]), num_workers=3, worker=worker)
        assert sorted(name for _, name in epoch) == sorted(parts[-1])
        # Positions seed the augmentation, so no two workers share one.
        assert [position % 3 for position, _ in epoch] == [worker] * len(epoch)
    assert sorted(sum(parts, [])) == sorted(name for _, name in _order(records, _NUM)) and all(parts)
    with pytest.raises(ValueError, match="`num_workers` must not pass the number of shards.*num_workers=4, 3 shards"):
        records.shuffled(0, 0, 4, 3)


def test_a_worker_makes_its_share_of_batches(folder):
    files = source.open(str(folder), str(folder / "label.txt"))
    batches = _take(3, files, num_workers=2, worker=1)
    assert _names(batches) == [name for _, name in _order(files, 12)[1::2]]


def test_targets_are_finite_and_say_where_the_faces_are(opened):
    # Faces are the bright squares, points lie in them at fixed places: what decoded targets point at shows it.
    config = _CONFIG.replace(
        photometric_probability=0.0, blur_probability=0.0, jpeg_probability=0.0, zoom_out_probability=0.0
    )
    anchors = anchor.generate((96, 96), config.anchors.strides, config.anchors.sizes)
    seen = 0
    for batch in _take(7, opened, config):
        assert batch["image"].shape == (2, 96, 96, 3) and batch["image"].dtype == np.uint8
        assert batch["state"].shape == (2, len(anchors))
        assert all(np.isfinite(value).all() for key, value in batch.items() if key != "image_name")
        is_positive = batch["state"] == matcher.POSITIVE
        boxes = box.decode(batch["box_deltas"], anchors, config.anchors.variances).numpy()
        points = landmark.decode(batch["landmark_deltas"], anchors, config.anchors.variances[0]).numpy()
        for image, index in np.argwhere(is_positive):
            x1, y1, x2, y2 = np.round(boxes[image, index]).astype(int)
            assert -1 <= x1 < x2 <= 97 and -1 <= y1 < y2 <= 97
            if min(x2 - x1, y2 - y1) < 12:
                continue
            inside = batch["image"][image, max(y1, 0) + 3 : y2 - 3, max(x1, 0) + 3 : x2 - 3]
            assert np.median(inside) > 180
            for (x, y), weight in zip(points[image, index], batch["landmark_weight"][image, index]):
                if weight and 3 < x < 93 and 3 < y < 93:
                    assert batch["image"][image, int(y), int(x)].mean() > 150
                    seen += 1
    assert seen > 100


def test_without_training_once_in_order_and_whole(folder, opened):
    batches = _take(100, opened, training=False, batch_size=3)
    assert [len(batch["image"]) for batch in batches] == [3, 3, 1]
    names = _names(batches)
    in_file = [record.image for record in wider_face.read(str(folder / "label.txt"))]
    assert sorted(names) == sorted(in_file)
    if isinstance(opened, source.RecordSource):
        assert names == in_file
    if isinstance(opened, source.RecordSource):
        _assert_equal(_take(100, opened, training=False, batch_size=3, start_step=2), batches[2:])
    # The image without faces is all background, and every other has an anchor.
    has_face = {
        name: (state == matcher.POSITIVE).any()
        for name, state in zip(names, np.concatenate([batch["state"] for batch in batches]))
    }
    assert has_face == {name: name != "3.png" for name in names}


def test_drawn_images_by_name():
    config = _CONFIG.replace(image_size=(128, 128), batch_size=1)
    batches = dataset.make_dataset(config, "synthetic:3", None)
    image, targets = next(iter(batches))
    assert image.shape == (1, 128, 128, 3) and set(np.unique(targets["state"])) <= {-1, 0, 1}
    assert all(np.isfinite(value).all() for value in targets.values())


def test_one_batch_of_the_photos(photos):
    config = _CONFIG.replace(image_size=(160, 160), batch_size=4)
    batches = dataset.make_dataset(config, str(photos), str(photos / "label.txt"))
    image, targets = next(iter(batches))
    assert image.shape == (4, 160, 160, 3) and image.numpy().std() > 20
    is_positive = targets["state"].numpy() == matcher.POSITIVE
    assert is_positive.any(axis=1).sum() >= 3
    assert all(np.isfinite(value).all() for value in targets.values())
    assert targets["landmark_weight"].numpy()[is_positive].mean() > 0.5


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder of four images; of one the start and the end are whole and the middle is not."""
    path = tmp_path_factory.mktemp("damaged")
    names = [f"{index}.png" for index in range(4)]
    for name in names:
        (path / name).write_bytes(pictures.encode(pictures.noise(64, 64)))
    content = bytearray((path / "2.png").read_bytes())
    content[3000:3400] = b"\0" * 400
    (path / "2.png").write_bytes(content)
    (path / "._0.png").write_bytes(b"no image, and no annotation names it")
    (path / "label.txt").write_text("".join(f"# {name}\n8 8 32 32\n" for name in names))
    return str(path), str(path / "label.txt")


def test_an_image_damaged_in_its_middle_is_left_out_and_told(damaged, caplog):
    opened = source.open(*damaged, on_bad_data="skip")
    batches = _take(5, opened, batch_size=2)
    assert set(_names(batches)) == {"0.png", "1.png", "3.png"} and len(_names(batches)) == 10
    assert list(opened.bad_data.left_out) == ["2.png"]
    assert _names(_take(9, opened, training=False)) == ["0.png", "1.png", "3.png"]
    with caplog.at_level("WARNING", logger="absl"):
        opened.bad_data.report_left_out()
    assert "1 images could not be decoded and were left out: 2.png" in caplog.text


def test_an_image_damaged_in_its_middle_stops_by_name(damaged):
    with pytest.raises(tf.errors.InvalidArgumentError, match="2.png: expected a whole image. Received: not a readable"):
        _take(9, source.open(*damaged), training=False)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "`batch_size` must be 1 or more and `start_step` 0 or more. Received: batch_size=0"),
        ({"start_step": -1}, "`start_step` 0 or more. Received: batch_size=2, start_step=-1"),
        ({"num_workers": 2, "worker": 2}, "`worker` must be in [0, num_workers). Received: worker=2, num_workers=2"),
    ],
)
def test_numbers_out_of_range(folder, options, message):
    opened = source.open(str(folder), str(folder / "label.txt"))
    with pytest.raises(ValueError, match=re.escape(message)):
        dataset.make_dataset(_CONFIG, None, opened, **options)


def test_a_data_service_does_the_work(folder):
    opened = source.open(str(folder), str(folder / "label.txt"))
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    names = _names(_take(_NUM, opened, data_service=dispatcher.target))
    assert len(names) == 2 * _NUM and set(names) == {f"{i}.{'png' if i % 2 else 'jpg'}" for i in range(_NUM)}
    del worker
