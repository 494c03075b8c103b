"""From annotations to batches with anchor targets: order, sharding and resume; the work itself is in its neighbours."""

from __future__ import annotations

import functools
import os

import tensorflow as tf

from data_pipeline import augment, source, target
from data_pipeline import image as image_lib
from keras_retinaface import config as config_lib

# Images of a mosaic.
_MOSAIC = 4
_WORD = 0x7FFFFFFF


def make_dataset(
    config: config_lib.Config,
    images: str | None,
    annotations: str | source.Source | None,
    *,
    landmarks: str | None = None,
    training: bool = True,
    seed: int | None = None,
    start_step: int = 0,
    batch_size: int | None = None,
    on_bad_data: str | None = None,
    category: str | None = None,
    num_workers: int = 1,
    worker: int = 0,
    data_service: str | None = None,
    with_names: bool = False,
) -> tf.data.Dataset:
    """Builds the input of `model.fit`: `(image, targets)` batches.

    Training batches come shuffled, augmented and without end; others in the order of the annotations, fitted into
    `image_size`, once, the last one smaller. The same seed gives the same batches whatever the number of parallel
    calls, and one made with `start_step` continues where another stopped.

    Args:
        config: sizes, anchors, augmentation; its seed and batch size are the defaults.
        images: folder that the names in the annotations start from.
        annotations: a file that `source.open` reads, or what it returned; the options of `open` are then given there.
        landmarks: a second file whose landmarks are joined to the boxes of the first.
        training: see above.
        seed: of order and augmentation.
        start_step: batches already seen.
        batch_size: images a batch of one worker.
        on_bad_data: `fail`, the default, raises at the first fault, `skip` leaves the image out, counts and reports.
        category: of COCO JSON, as for `source.open`.
        num_workers: hosts that share the images, each with its own dataset.
        worker: of these, the one this dataset is for.
        data_service: address of a `tf.data` service (`grpc://host:port`) whose servers, started by
            `data_pipeline.serve`, do the work. Every record is still used once an epoch, but in no fixed order.
        with_names: whether the targets hold `image_name` string `[B]`.

    Returns:
        A dataset of `image` uint8 `[B, H, W, 3]`, RGB, 0..255, and the targets of `target.encode`. Its attribute
        `num_records` is the number of images of all workers.

    Raises:
        ValueError: at bad data, or when a number is out of range.
    """
    seed = config.training.seed if seed is None else seed
    batch_size = config.training.batch_size if batch_size is None else batch_size
    if batch_size < 1 or start_step < 0:
        raise ValueError(
            "`batch_size` must be 1 or more and `start_step` 0 or more. "
            f"Received: batch_size={batch_size}, start_step={start_step}"
        )
    if annotations is None or isinstance(annotations, (str, os.PathLike)):
        annotations = source.open(
            images, annotations, landmarks=landmarks, on_bad_data=on_bad_data or "fail", category=category
        )
    else:
        _refuse_ignored(landmarks=landmarks, on_bad_data=on_bad_data, category=category)

    def encode(samples):
        targets = target.encode(samples, config.augmentation.image_size, config.anchors)
        if with_names:
            targets["image_name"] = samples["image_name"]
        return samples["image"], targets

    samples = make_samples(
        config,
        annotations,
        training=training,
        seed=seed,
        start=start_step * batch_size,
        num_workers=num_workers,
        worker=worker,
    )
    batches = samples.padded_batch(batch_size, drop_remainder=training)
    batches = batches.map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if data_service:
        # Each record goes to one server, whichever asks first, so the order is no longer the seed's.
        policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        batches = batches.apply(tf.data.experimental.service.distribute(policy, data_service))
    batches = batches.prefetch(2).with_options(_options(num_workers))
    batches.num_records = annotations.num_records
    return batches


def _refuse_ignored(**options: str | None) -> None:
    """Raises an error for an option that a source, opened before, could not heed."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"`{name}` must be given to `source.open`, not beside its source. Received: {value!r}")


def make_samples(
    config: config_lib.Config,
    annotations: source.Source,
    *,
    training: bool = True,
    seed: int = 0,
    start: int = 0,
    num_workers: int = 1,
    worker: int = 0,
) -> tf.data.Dataset:
    """Builds the samples that batches are made of; arguments as for `make_dataset`.

    Args:
        config: sizes and augmentation.
        annotations: where samples come from.
        training: whether to shuffle, augment and repeat.
        seed: of order and augmentation.
        start: samples already seen.
        num_workers: hosts that share the images.
        worker: of these.

    Returns:
        A dataset of dicts as `augment` describes them, with `image_name` string and `num_faces` int32 scalars.
    """
    if not 0 <= worker < num_workers:
        raise ValueError(f"`worker` must be in [0, num_workers). Received: worker={worker}, num_workers={num_workers}")
    if training:
        raw = _shuffled(annotations, config, seed, start, num_workers, worker)
    else:
        raw = annotations.in_order(num_workers, worker).skip(start)
        raw = raw.map(lambda position, item: (position, item[None]))

    def load(position, items):
        sample = annotations.parse(items[0])
        if training:
            partners = [functools.partial(annotations.parse, item) for item in tf.unstack(items)[1:]]
            sample = augment.augment(sample, config.augmentation, _sample_seed(seed, position), partners)
        else:
            sample = _fit(sample, config.augmentation)
        sample["num_faces"] = tf.shape(sample["boxes"])[0]
        sample["image"] = tf.ensure_shape(sample["image"], [*config.augmentation.image_size, 3])
        return sample

    return raw.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _shuffled(
    annotations: source.Source, config: config_lib.Config, seed: int, start: int, num_workers: int, worker: int
) -> tf.data.Dataset:
    """Returns endless pairs of a position and its items: one, or four for a mosaic, the first the position's own."""
    if not config.augmentation.mosaic_probability:
        raw = annotations.shuffled(seed, start, num_workers, worker)
        return raw.map(lambda position, item: (position, item[None]))
    # Every item is the first of one sample and a partner in the three others of its group, so none is read twice.
    order = tf.constant([[(first + k) % _MOSAIC for k in range(_MOSAIC)] for first in range(_MOSAIC)])
    groups = annotations.shuffled(seed, start - start % _MOSAIC, num_workers, worker).batch(_MOSAIC)
    raw = groups.map(lambda positions, items: (positions, tf.gather(items, order))).unbatch()
    return raw.skip(start % _MOSAIC)


def _sample_seed(seed: int, position: tf.Tensor) -> tf.Tensor:
    """Mixes two int64 into the int32 `[2]` that stateless ops take, and that no other position shares."""
    key = tf.constant([seed & _WORD, (seed >> 31) & _WORD], tf.int32)
    return tf.random.experimental.stateless_fold_in(key, position)


def _fit(sample: dict, config: config_lib.Augmentation) -> dict:
    sample["image"] = image_lib.decode(sample.pop("image_bytes"))
    sample = augment.letterbox(sample, config.image_size)
    return augment.ignore_small(augment.to_uint8(sample), config.min_face)


def _options(num_workers: int) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    if num_workers > 1:
        # The records are already split; a distribution strategy would split them again.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
