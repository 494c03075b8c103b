"""Augmentation: functions from a sample dict to a sample dict, each random one with its seed, boxes moving with pixels.

A sample holds `image` uint8 or float32 `[H, W, 3]`, RGB, 0..255, `boxes` float32 `[N, 4]`, xyxy, pixels, `landmarks`
float32 `[N, 5, 2]`, pixels, `landmark_visible` bool `[N, 5]` and `is_ignored` bool `[N]`. Other keys pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from data_pipeline import colour
from data_pipeline import image as image_lib
from data_pipeline import window as window_lib
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import five_points, landmark

# Enlarging by area looks like nearest neighbours; nearest itself and Lanczos are two and ten times as slow.
_RESIZE_METHODS = ("bilinear", "bicubic", "area")
# Pixels of the result: what a lens or a cheap scaler does to a face, not more than a face of eight pixels survives.
_BLUR_SIGMA = (0.4, 1.6)
_BLUR_REACH = 4
_JPEG_QUALITY = (30.0, 95.0)
FACE_KEYS = ("boxes", "landmarks", "landmark_visible", "is_ignored")

Sample = dict


def augment(
    sample: Sample,
    config: config_lib.Augmentation,
    seed: tf.Tensor,
    partners: Sequence[Callable[[], Sample]] = (),
) -> Sample:
    """Makes a training sample of `config.image_size` by all ops in turn.

    Args:
        sample: as above, or with `image_bytes` (string scalar, an encoded image) for `image`.
        config: sizes and probabilities.
        seed: int32 `[2]`; the same seed gives the same sample.
        partners: three functions that return further samples, called if a mosaic is drawn.

    Returns:
        The sample; its `image` is uint8.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
    rest = {key: value for key, value in sample.items() if key not in ("image", "image_bytes", *FACE_KEYS)}
    if config.mosaic_probability and len(partners) == 3:
        sample = tf.cond(
            tf.random.stateless_uniform([], seeds[0]) < config.mosaic_probability,
            lambda: _mosaic_of([sample, *(partner() for partner in partners)], config, seeds[1]),
            lambda: _crop_and_resize(sample, config, config.image_size, seeds[1]),
        )
    else:
        sample = _crop_and_resize(sample, config, config.image_size, seeds[1])
    sample = random_blur(sample, config, seeds[2])
    sample = random_jpeg(to_uint8(sample), config, seeds[3])
    return {**rest, **ignore_small(sample, config.min_face)}


def _crop_and_resize(
    sample: Sample, config: config_lib.Augmentation, image_size: tuple[int, int], seed: tf.Tensor
) -> Sample:
    """Does what is done to each image of a mosaic on its own."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
    sample = random_crop(sample, config, seeds[0], crop_size=image_size)
    sample = random_flip(sample, config, seeds[1])
    # Colours before size: the two commute but for clipping, and crops have fewer pixels than what they become.
    sample = random_photometric(sample, config, seeds[2])
    sample = random_grey(sample, config, seeds[3])
    sample = random_resize(sample, image_size, seeds[4], antialias_probability=config.antialias_probability)
    return {key: sample[key] for key in ("image", *FACE_KEYS, "fault") if key in sample}


def _mosaic_of(samples: Sequence[Sample], config: config_lib.Augmentation, seed: tf.Tensor) -> Sample:
    height, width = config.image_size
    tops, lefts = (height // 2, height - height // 2), (width // 2, width - width // 2)
    sizes = [(tops[0], lefts[0]), (tops[0], lefts[1]), (tops[1], lefts[0]), (tops[1], lefts[1])]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    return mosaic([_crop_and_resize(*args) for args in zip(samples, [config] * 4, sizes, seeds)])


def mosaic(samples: Sequence[Sample]) -> Sample:
    """Lays four samples into two rows of two; those beside each other share a height, those in line a width."""
    images = [sample["image"] for sample in samples]
    size = tf.cast(tf.shape(images[0])[:2], tf.float32)
    rows = [tf.concat(images[:2], axis=1), tf.concat(images[2:], axis=1)]
    joined = {"image": tf.concat(rows, axis=0)}
    if "fault" in samples[0]:
        # The others are panels without faces where they cannot be read.
        joined["fault"] = samples[0]["fault"]
    corners = [size[::-1] * tf.constant(corner) for corner in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))]
    joined["boxes"] = tf.concat([s["boxes"] + tf.tile(c, [2]) for s, c in zip(samples, corners)], axis=0)
    joined["landmarks"] = tf.concat([s["landmarks"] + c for s, c in zip(samples, corners)], axis=0)
    for key in ("landmark_visible", "is_ignored"):
        joined[key] = tf.concat([sample[key] for sample in samples], axis=0)
    return joined


def random_crop(
    sample: Sample, config: config_lib.Augmentation, seed: tf.Tensor, *, crop_size: tuple[int, int] | None = None
) -> Sample:
    """Crops a window as `window.choose` or, with a native scale, `window.choose_native` finds it for a `crop_size`."""
    if "image" in sample:
        header, size = None, tf.shape(sample["image"])[:2]
    else:
        header = image_lib.read_header(sample["image_bytes"])
        size = tf.maximum(header.size, 1)
    boxes, is_ignored = sample["boxes"], sample["is_ignored"]
    if config.native_scale[1] > 0:
        crop_size = crop_size or config.image_size
        window = window_lib.choose_native(boxes, is_ignored, size, config, crop_size=crop_size, seed=seed)
    else:
        window = window_lib.choose(boxes, is_ignored, size, config, seed)
    return crop(sample, window, header, max_cut=config.max_cut)


def crop(sample: Sample, window: tf.Tensor, header: image_lib.Header | None = None, *, max_cut: float = 1.0) -> Sample:
    """Cuts a window out of image and faces.

    Faces whose centre is inside stay, cut to the window. Of the others what is in sight stays as ignored: it is
    neither a face to be found nor background. Points outside are no longer visible.

    Args:
        sample: sample with `image`, or with `image_bytes`, of which only the window is decoded.
        window: int32 `[4]`: top, left, height, width, pixels; may leave the image.
        header: header of `image_bytes`, where it was read before.
        max_cut: faces that lose more than this share of their box are ignored too.

    Returns:
        The sample, its `image` of the window's size. From `image_bytes` it also has `fault`, a string: what is wrong
        with the file, of which then no face is left; empty if nothing is.
    """
    sample = dict(sample)
    if "image" in sample:
        size = tf.shape(sample["image"])[:2]
        sample["image"] = image_lib.crop(sample["image"], window)
    else:
        image_bytes = sample.pop("image_bytes")
        header = image_lib.read_header(image_bytes) if header is None else header
        size = header.size
        sample["image"], sample["fault"] = image_lib.decode_window(image_bytes, header, window)

    corner = tf.cast(window[1::-1], tf.float32)  # (x, y)
    extent = tf.cast(window[:1:-1], tf.float32)
    # A box may leave the image in the annotations, or the window the image: only pixels of the image count.
    limit_low = tf.maximum(-corner, 0.0)
    limit_high = tf.minimum(tf.cast(size[::-1], tf.float32) - corner, extent)
    low, high = sample["boxes"][:, :2] - corner, sample["boxes"][:, 2:] - corner
    centre, area = 0.5 * (low + high), tf.reduce_prod(high - low, axis=-1)
    low = tf.clip_by_value(low, limit_low, limit_high)
    high = tf.clip_by_value(high, limit_low, limit_high)
    is_inside = tf.reduce_all((centre >= limit_low) & (centre <= limit_high), axis=-1)
    stays = is_inside | tf.reduce_all(high > low, axis=-1)
    if "fault" in sample:
        stays &= sample["fault"] == ""
    sample["boxes"] = tf.concat([low, high], axis=-1)
    sample["landmarks"] = sample["landmarks"] - corner
    in_sight = (sample["landmarks"] >= limit_low) & (sample["landmarks"] <= limit_high)
    sample["landmark_visible"] = sample["landmark_visible"] & tf.reduce_all(in_sight, axis=-1)
    is_cut = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1) < (1.0 - max_cut) * area
    sample["is_ignored"] = sample["is_ignored"] | ~is_inside | is_cut
    rows = tf.where(stays)[:, 0]
    for key in FACE_KEYS:
        sample[key] = tf.gather(sample[key], rows)
    return sample


def random_resize(
    sample: Sample, image_size: tuple[int, int], seed: tf.Tensor, *, antialias_probability: float = 0.0
) -> Sample:
    """Resizes with an interpolation drawn from bilinear, bicubic and area, or shrinks bilinearly without aliases."""
    index = tf.random.stateless_uniform([], seed, maxval=len(_RESIZE_METHODS), dtype=tf.int32)
    # The kernels are about twice as fast on floats as on bytes.
    image = tf.cast(sample["image"], tf.float32)

    def resizer(method):
        return lambda: tf.image.resize(image, image_size, method)

    branches = [resizer(method) for method in _RESIZE_METHODS]
    if antialias_probability:
        is_smooth = tf.random.stateless_uniform([], seed + 1) < antialias_probability
        is_smooth &= tf.reduce_any(tf.shape(image)[:2] > tf.constant(image_size))
        index = tf.where(is_smooth, len(branches), index)
        branches.append(lambda: tf.image.resize(image, image_size, "bilinear", antialias=True))
    resized = tf.switch_case(index, branches)
    return _scale_faces(dict(sample, image=resized), tf.shape(image)[:2], image_size)


def resize(sample: Sample, image_size: tuple[int, int]) -> Sample:
    """Resizes an image and its faces to a size, bilinearly; the image becomes float32."""
    image = sample["image"]
    return _scale_faces(dict(sample, image=tf.image.resize(image, image_size)), tf.shape(image)[:2], image_size)


def letterbox(sample: Sample, image_size: tuple[int, int]) -> Sample:
    """Fits an image into a size, keeping its aspect; what is left below or to the right is the mean colour."""
    size = tf.shape(sample["image"])[:2]
    scale = tf.reduce_max(tf.cast(size, tf.float32) / tf.constant(image_size, tf.float32))
    extent = tf.cast(tf.math.ceil(scale * tf.constant(image_size, tf.float32) - 1e-3), tf.int32)
    window = tf.concat([[0, 0], tf.maximum(extent, size)], axis=0)
    return resize(crop(sample, window), image_size)


def _scale_faces(sample: Sample, from_size: tf.Tensor, to_size: tuple[int, int]) -> Sample:
    scale = tf.constant(to_size, tf.float32) / tf.cast(from_size, tf.float32)
    sample["boxes"] = sample["boxes"] * tf.gather(scale, [1, 0, 1, 0])
    sample["landmarks"] = sample["landmarks"] * scale[::-1]
    return sample


def random_flip(sample: Sample, config: config_lib.Augmentation, seed: tf.Tensor) -> Sample:
    """Mirrors the sample with `config.flip_probability`."""
    is_flipped = tf.random.stateless_uniform([], seed) < config.flip_probability
    keys = ("image", "boxes", "landmarks", "landmark_visible")
    flipped = tf.cond(
        is_flipped,
        lambda: {key: value for key, value in flip(sample).items() if key in keys},
        lambda: {key: value for key, value in sample.items() if key in keys},
    )
    return {**sample, **flipped}


def flip(sample: Sample) -> Sample:
    """Mirrors image, boxes and landmarks left to right; left landmarks become right ones."""
    width = tf.cast(tf.shape(sample["image"])[1], tf.float32)
    x1, y1, x2, y2 = tf.unstack(sample["boxes"], axis=-1)
    return dict(
        sample,
        image=tf.reverse(sample["image"], axis=[1]),
        boxes=tf.stack([width - x2, y1, width - x1, y2], axis=-1),
        landmarks=landmark.mirror(sample["landmarks"], width),
        landmark_visible=tf.gather(sample["landmark_visible"], five_points.MIRRORED, axis=-1),
    )


def random_photometric(sample: Sample, config: config_lib.Augmentation, seed: tf.Tensor) -> Sample:
    """Changes hue, saturation, contrast about mid-grey and brightness, with `config.photometric_probability`.

    All four are one linear map of a pixel, so the image is read and written once.
    """
    draw = tf.unstack(tf.random.stateless_uniform([5], seed))

    def distort():
        contrast = _between(config.contrast, draw[1])
        hue = _between((-config.hue, config.hue), draw[2])
        saturation = _between(config.saturation, draw[3])
        shift = 255.0 * _between((-config.brightness, config.brightness), draw[4])
        image = colour.adjust_hsv(tf.cast(sample["image"], tf.float32), hue, saturation, contrast)
        return image + (127.5 * (1.0 - contrast) + shift)

    is_changed = draw[0] < config.photometric_probability
    return dict(sample, image=tf.cond(is_changed, distort, lambda: tf.cast(sample["image"], tf.float32)))


def random_grey(sample: Sample, config: config_lib.Augmentation, seed: tf.Tensor) -> Sample:
    """Takes all colour away with `config.grey_probability`."""

    def change(image):
        return colour.adjust_hsv(image, tf.constant(0.0), tf.constant(0.0), tf.constant(1.0))

    return _change_image(sample, change, config.grey_probability, seed)


def random_blur(sample: Sample, config: config_lib.Augmentation, seed: tf.Tensor) -> Sample:
    """Blurs by a Gaussian of random width with `config.blur_probability`."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))

    def change(image):
        sigma = _between(_BLUR_SIGMA, tf.random.stateless_uniform([], seeds[1]))
        offset = tf.range(-_BLUR_REACH, _BLUR_REACH + 1, dtype=tf.float32)
        weights = tf.nn.softmax(-0.5 * (offset / sigma) ** 2)
        # Mirrored, because zeros beyond the border would darken it.
        reach = [_BLUR_REACH, _BLUR_REACH]
        image = tf.pad(image, [reach, reach, [0, 0]], "REFLECT")[None]
        for shape in ([-1, 1, 1, 1], [1, -1, 1, 1]):
            kernel = tf.tile(tf.reshape(weights, shape), [1, 1, 3, 1])
            image = tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "VALID")
        return image[0]

    return _change_image(sample, change, config.blur_probability, seeds[0])


def random_jpeg(sample: Sample, config: config_lib.Augmentation, seed: tf.Tensor) -> Sample:
    """Encodes a uint8 image as a JPEG of random quality, and decodes it, with `config.jpeg_probability`."""
    if not config.jpeg_probability:
        return sample
    draw = tf.unstack(tf.random.stateless_uniform([2], seed))

    def change():
        return tf.image.adjust_jpeg_quality(sample["image"], tf.cast(_between(_JPEG_QUALITY, draw[1]), tf.int32))

    return dict(sample, image=tf.cond(draw[0] < config.jpeg_probability, change, lambda: sample["image"]))


def _change_image(sample: Sample, change: Callable, probability: float, seed: tf.Tensor) -> Sample:
    """Changes an image as float32 with a probability; without one there is nothing in the graph."""
    if not probability:
        return sample
    is_changed = tf.random.stateless_uniform([], seed) < probability
    image = tf.cast(sample["image"], tf.float32)
    return dict(sample, image=tf.cond(is_changed, lambda: change(image), lambda: image))


def ignore_small(sample: Sample, min_face: float) -> Sample:
    """Ignores faces whose shorter side is under `min_face` pixels."""
    size = tf.reduce_min(sample["boxes"][:, 2:] - sample["boxes"][:, :2], axis=-1)
    # Without area a face cannot be encoded, whatever the smallest one wanted.
    return dict(sample, is_ignored=sample["is_ignored"] | (size < min_face) | (size <= 0.0))


def to_uint8(sample: Sample) -> Sample:
    """Rounds the image to whole grey levels within 0..255."""
    image = tf.clip_by_value(tf.cast(sample["image"], tf.float32) + 0.5, 0.0, 255.0)
    return dict(sample, image=tf.cast(image, tf.uint8))


def _between(limits: tuple[float, float], draw: tf.Tensor) -> tf.Tensor:
    return limits[0] + draw * (limits[1] - limits[0])
