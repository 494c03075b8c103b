"""From annotations to batches with anchor targets: order, sharding and resume; the work itself is in its neighbours."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable

import tensorflow as tf

from data_pipeline import augment, source, target
from data_pipeline import image as image_lib
from data_pipeline import record as record_lib
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
        seed: seed of order and augmentation.
        start_step: batches already seen.
        batch_size: images a batch of one worker.
        on_bad_data: `fail`, the default, raises at the first fault, `skip` leaves the image out, counts and reports.
        category: category in COCO JSON, as for `source.open`.
        num_workers: hosts that share the images, each with its own dataset.
        worker: number of the worker that this dataset is for.
        data_service: address of a `tf.data` service (`grpc://host:port`) whose servers, started by
            `data_pipeline.serve`, do the work. Every record is still used once an epoch, but in no fixed order.
        with_names: whether the targets hold `image_name` string `[B]`.

    Returns:
        A dataset of `image` uint8 `[B, H, W, 3]`, RGB, 0..255, and the targets of `target.make`.

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

    @tf.autograph.experimental.do_not_convert
    def encode(samples):
        targets = target.make(samples, config.augmentation.image_size, config.anchors)
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
        has_python=not data_service,
    )
    batches = samples.padded_batch(batch_size, drop_remainder=training)
    batches = batches.map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if data_service:
        # Each record goes to one server, whichever asks first, so the order is no longer the seed's.
        policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        batches = batches.apply(tf.data.experimental.service.distribute(policy, data_service))
    return batches.prefetch(2).with_options(_options(num_workers))


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
    has_python: bool = True,
) -> tf.data.Dataset:
    """Builds the samples that batches are made of; arguments as for `make_dataset`.

    Args:
        config: sizes and augmentation.
        annotations: where samples come from.
        training: whether to shuffle, augment and repeat.
        seed: seed of order and augmentation.
        start: samples already seen.
        num_workers: hosts that share the images.
        worker: number of this worker.
        has_python: whether the samples are made in this process; others read JPEG and PNG only.

    Returns:
        A dataset of dicts as `augment` describes them, with `image_name` string and `num_faces` int32 scalars. An image
        that cannot be decoded raises with its name or, where bad data is skipped, another one takes its place (in
        validation: none), and the source's `bad_data` takes note.
    """
    # A position counts samples from the start of the training; the order and each sample's seed hang on nothing else. A
    # sample's `fault` says why its image could not be decoded, and is empty where it could.
    if not 0 <= worker < num_workers:
        raise ValueError(f"`worker` must be in [0, num_workers). Received: worker={worker}, num_workers={num_workers}")
    if training:
        # Where an image may fail, the others of its group stand by.
        is_grouped = bool(config.augmentation.mosaic_probability) or annotations.bad_data.skips
        raw = _shuffled(annotations, is_grouped, seed, start, num_workers, worker)
    else:
        raw = annotations.in_order(num_workers, worker).skip(start)
        raw = raw.map(lambda position, item: (position, item[None]))

    def load_one(position, items):
        sample = annotations.parse(items[0])
        if training:
            partners = [functools.partial(annotations.parse, item) for item in tf.unstack(items)[1:]]
            sample = augment.augment(sample, config.augmentation, _sample_seed(seed, position), partners)
        else:
            sample = _fit(sample, config.augmentation)
        sample["num_faces"] = tf.shape(sample["boxes"])[0]
        sample["image"] = tf.ensure_shape(sample["image"], [*config.augmentation.image_size, 3])
        return sample

    # Whatever branches on a tensor says so with an op; to rewrite the source of all this took half of the start.
    @tf.autograph.experimental.do_not_convert
    def load(position, items):
        if annotations.bad_data.skips and has_python:
            return _load_whole(functools.partial(load_one, position), items, annotations.bad_data, config.augmentation)
        sample = load_one(position, items)
        message = tf.strings.join([sample["image_name"], ": expected a whole image. Received: ", sample["fault"]])
        with tf.control_dependencies([tf.debugging.Assert(sample["fault"] == "", [message])]):
            return dict(sample, image=tf.identity(sample["image"]))

    with contextlib.nullcontext() if has_python else image_lib.without_python():
        samples = raw.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if annotations.bad_data.skips:
        # What no Python looked after is lost without a name; what was broken in validation is left out.
        samples = samples.filter(lambda sample: sample["fault"] == "") if has_python else samples.ignore_errors(True)
    return samples.map(lambda sample: {key: value for key, value in sample.items() if key != "fault"})


def _load_whole(
    load_one: Callable, items: tf.Tensor, bad_data: record_lib.BadData, config: config_lib.Augmentation
) -> dict:
    """Loads the first item that can be decoded, the last one in any case; the others become known to `bad_data`."""
    num_items = items.shape[0]

    def attempt(index, _):
        sample = load_one(tf.gather(items, (tf.range(num_items) + index) % num_items))
        is_whole = sample["fault"] == ""
        note = tf.cond(
            is_whole,
            lambda: tf.constant(False),
            lambda: tf.ensure_shape(
                tf.numpy_function(_note(bad_data), [sample["image_name"], sample["fault"]], tf.bool), []
            ),
        )
        with tf.control_dependencies([note]):
            return tf.where(is_whole, num_items, index + 1), sample

    if num_items == 1:
        return attempt(tf.constant(0), None)[1]
    specs = {
        "image": ([*config.image_size, 3], tf.uint8),
        "boxes": ([None, 4], tf.float32),
        "landmarks": ([None, 5, 2], tf.float32),
        "landmark_visible": ([None, 5], tf.bool),
        "is_ignored": ([None], tf.bool),
        "image_name": ([], tf.string),
        "num_faces": ([], tf.int32),
        "fault": ([], tf.string),
    }
    blank = {key: tf.zeros([side or 0 for side in shape], dtype) for key, (shape, dtype) in specs.items()}
    shapes = tf.TensorShape([]), {key: tf.TensorShape(shape) for key, (shape, _) in specs.items()}
    _, sample = tf.while_loop(
        lambda index, _: index < num_items, attempt, (tf.constant(0), blank), shapes, parallel_iterations=1
    )
    return sample


def _note(bad_data: record_lib.BadData) -> Callable:
    def note(name, fault):
        bad_data.leave_out(name.decode(), fault.decode())
        return True

    return note


def _shuffled(
    annotations: source.Source, is_grouped: bool, seed: int, start: int, num_workers: int, worker: int
) -> tf.data.Dataset:
    """Returns endless pairs of a position and its items: one, or a group of four, the first the position's own."""
    if not is_grouped:
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
    sample["image"], sample["fault"] = image_lib.decode(sample.pop("image_bytes"))
    has_no_fault = sample["fault"] == ""
    for key in augment.FACE_KEYS:
        sample[key] = tf.boolean_mask(sample[key], tf.fill(tf.shape(sample[key])[:1], has_no_fault))
    sample = augment.letterbox(sample, config.image_size)
    return augment.ignore_small(augment.to_uint8(sample), config.min_face)


def _options(num_workers: int) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    if num_workers > 1:
        # The records are already split; a distribution strategy would split them again.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
