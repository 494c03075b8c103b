"""From annotations to batches with anchor targets: order, sharding and resume; the work itself is in its neighbours."""

from __future__ import annotations

import tensorflow as tf

from data_pipeline import augment, source, target
from data_pipeline import image as image_lib
from keras_retinaface import config as config_lib

_SAMPLE_KEYS = ("image", "image_name", *augment.FACE_KEYS)


def make_dataset(
    config: config_lib.Config,
    images: str | None,
    annotations: str | source.Source,
    *,
    landmarks: str | None = None,
    training: bool = True,
    seed: int | None = None,
    start_step: int = 0,
    batch_size: int | None = None,
    on_bad_data: str = "fail",
    num_workers: int = 1,
    worker: int = 0,
    with_names: bool = False,
) -> tf.data.Dataset:
    """Builds the input of `model.fit`: `(image, targets)` batches.

    Training batches come shuffled, augmented and without end; others in the order of the annotations, fitted into
    `image_size`, once, the last one smaller. The same seed gives the same batches whatever the number of parallel
    calls, and one made with `start_step` continues where another stopped.

    Args:
        config: sizes, anchors, augmentation; its seed and batch size are the defaults.
        images: folder that the names in the annotations start from.
        annotations: a file that `source.open` reads, or what it returned.
        landmarks: a second file whose landmarks are joined to the boxes of the first.
        training: see above.
        seed: of order and augmentation.
        start_step: batches already seen.
        batch_size: images a batch of one worker.
        on_bad_data: `fail` raises at the first fault, `skip` leaves the image out, counts and reports.
        num_workers: hosts that share the images, each with its own dataset.
        worker: of these, the one this dataset is for.
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
    if not 0 <= worker < num_workers:
        raise ValueError(f"`worker` must be in [0, num_workers). Received: worker={worker}, num_workers={num_workers}")
    if isinstance(annotations, str):
        annotations = source.open(images, annotations, landmarks=landmarks, on_bad_data=on_bad_data)
    if training:
        raw = annotations.shuffled(seed, start_step * batch_size, num_workers, worker)
    else:
        raw = annotations.in_order(num_workers, worker).skip(start_step * batch_size)

    def load(position, item):
        sample = annotations.parse(item)
        if training:
            # Two words, so that a position past 2^31 still has its own seed.
            low, high = tf.cast(position % (1 << 30), tf.int32), tf.cast(position // (1 << 30), tf.int32)
            sample = augment.augment(sample, config.augmentation, tf.stack([seed ^ high, low]))
        else:
            sample = _fit(sample, config.augmentation)
        sample = {key: sample[key] for key in _SAMPLE_KEYS}
        sample["num_faces"] = tf.shape(sample["boxes"])[0]
        sample["image"] = tf.ensure_shape(sample["image"], [*config.augmentation.image_size, 3])
        return sample

    def encode(sample):
        targets = target.encode(sample, config.augmentation.image_size, config.anchors)
        if with_names:
            targets["image_name"] = sample["image_name"]
        return sample["image"], targets

    batches = raw.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batches.padded_batch(batch_size, drop_remainder=training)
    batches = batches.map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batches.prefetch(2).with_options(_options(num_workers))
    batches.num_records = annotations.num_records
    return batches


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
