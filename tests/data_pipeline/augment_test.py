import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import augment
from data_pipeline import image as image_lib
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import five_points

_PLAIN = config_lib.Augmentation(
    image_size=(96, 128),
    photometric_probability=0.0,
    zoom_out_probability=0.0,
    background_probability=0.0,
    min_face=0.0,
)
_NO_SEED = tf.constant([0, 0])


def _with(**fields):
    return config_lib.Config(augmentation=_PLAIN).replace(**fields).augmentation


def _sample(boxes, landmarks=None, visible=None, is_ignored=None, image=None, size=(150, 200)):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    num = len(boxes)
    return {
        "image": tf.constant(np.zeros((*size, 3), np.uint8) if image is None else image),
        "boxes": tf.constant(boxes),
        "landmarks": tf.constant(np.zeros((num, 5, 2), np.float32) if landmarks is None else np.float32(landmarks)),
        "landmark_visible": tf.constant(np.ones((num, 5), bool) if visible is None else np.asarray(visible)),
        "is_ignored": tf.constant(np.zeros(num, bool) if is_ignored is None else np.asarray(is_ignored)),
    }


def _random_sample(rng, num=3, size=(60, 80)):
    corner = rng.uniform(0, 40, (num, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (num, 2))], 1)
    landmarks, visible = rng.uniform(0, 60, (num, 5, 2)), rng.random((num, 5)) < 0.7
    return _sample(boxes, landmarks, visible, image=rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def _assert_equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_allclose(value, other[key], atol=1e-4, err_msg=key)


def _dot(size, point):
    """Draws a white square of seven pixels whose centre is a point at half pixels."""
    image = np.zeros((*size, 3), np.uint8)
    x, y = (int(np.floor(value)) for value in point)
    image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = 255
    return image


def _find(image):
    """Returns the centre (x, y) of what is brighter than padding, None if nothing is."""
    weight = np.maximum(np.asarray(image, np.float64).mean(-1) - 140, 0)
    if not weight.any():
        return None
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


# A face with room around each point, so that dots do not touch; its corners are dots too.
_BOX = [70.5, 40.5, 110.5, 96.5]
_POINTS = [[78.5, 60.5], [100.5, 58.5], [90.5, 70.5], [80.5, 84.5], [98.5, 86.5]]


@pytest.mark.parametrize("zoom_out_probability", [0.0, 1.0])
def test_boxes_and_landmarks_move_with_the_pixels(zoom_out_probability):
    config = _with(zoom_out_probability=zoom_out_probability)
    size = (150, 200)
    dots = [_dot(size, point) for point in _POINTS + [_BOX[:2], _BOX[2:]]]

    sample = _sample([_BOX], [_POINTS])
    run = tf.function(lambda image, seed: augment.augment(dict(sample, image=image), config, seed))

    errors, flips = [], []
    for seed in range(14):
        results = [run(tf.constant(dot), tf.constant([7, seed])) for dot in dots]
        box, points = results[0]["boxes"][0].numpy(), results[0]["landmarks"][0].numpy()
        assert results[0]["landmark_visible"].numpy().all() and not results[0]["is_ignored"].numpy().any()
        # The first point is the one left in the image, mirrored or not; the dot may be on the other side.
        assert points[0, 0] < points[1, 0]
        found = [_find(result["image"]) for result in results]
        is_flipped = found[0][0] > found[1][0]
        flips.append(is_flipped)
        if is_flipped:
            points, box = points[list(five_points.MIRRORED)], box[[2, 1, 0, 3]]
        for dot, point in zip(found, [*points, box[:2], box[2:]]):
            # A dot cut off by the window has its centre elsewhere.
            reach = 4 * 128 / (0.3 * 200)
            if (point > reach).all() and (point < np.array([128, 96]) - reach).all():
                errors.append(dot - point)
    # Shrinking without smoothing moves a dot's centre by a part of a pixel, but either way.
    assert len(errors) > 30 and np.abs(errors).max() < 0.5
    np.testing.assert_allclose(np.mean(errors, 0), 0, atol=0.1)
    assert 0 < sum(flips) < len(flips)


def test_flip_worked_example():
    points = [[[10, 1], [20, 2], [15, 3], [11, 4], [19, 5]]]
    visible = [[True, False, True, True, False]]
    image = np.arange(4 * 100 * 3, dtype=np.float32).reshape(4, 100, 3)
    flipped = augment.flip(_sample([[8, 0, 25, 4]], points, visible, image=image))
    np.testing.assert_array_equal(flipped["boxes"], [[75, 0, 92, 4]])
    np.testing.assert_array_equal(flipped["landmarks"], [[[80, 2], [90, 1], [85, 3], [81, 5], [89, 4]]])
    np.testing.assert_array_equal(flipped["landmark_visible"], [[False, True, True, False, True]])
    np.testing.assert_array_equal(flipped["image"], image[:, ::-1])


def test_flip_twice_is_identity():
    sample = _random_sample(np.random.default_rng(0))
    _assert_equal(augment.flip(augment.flip(sample)), sample)
    once = augment.random_flip(sample, _with(flip_probability=1.0), _NO_SEED)
    _assert_equal(once, augment.flip(sample))
    _assert_equal(augment.random_flip(sample, _with(flip_probability=0.0), _NO_SEED), sample)


def test_crop_keeps_faces_by_their_centre():
    # Window x 50..100, y 20..60. Centres: inside; inside, cut; outside with a part in sight; out of sight; on the edge.
    boxes = [[60, 30, 70, 40], [90, 50, 108, 66], [95, 30, 115, 40], [0, 0, 10, 10], [40, 20, 60, 30]]
    points = np.full((5, 5, 2), 55.0)
    points[0, 1], points[1, 0] = [49, 30], [100, 60]
    cropped = augment.crop(_sample(boxes, points), tf.constant([20, 50, 40, 50]))
    expected = [[10, 10, 20, 20], [40, 30, 50, 40], [45, 10, 50, 20], [0, 0, 10, 10]]
    np.testing.assert_array_equal(cropped["boxes"], expected)
    np.testing.assert_array_equal(cropped["is_ignored"], [False, False, True, False])
    assert cropped["image"].shape == (40, 50, 3)
    visible = cropped["landmark_visible"].numpy()
    np.testing.assert_array_equal(visible[0], [True, False, True, True, True])
    assert visible[1:].all()
    np.testing.assert_array_equal(cropped["landmarks"][1, 0], [50, 40])


def test_crop_beyond_the_border_pads_with_the_mean():
    image = np.full((20, 30, 3), 200, np.uint8)
    cropped = augment.crop(_sample([[-6, -6, 30, 20]], image=image), tf.constant([-5, -10, 40, 60]))
    padded = np.full((40, 60, 3), image_lib.MEAN, np.uint8)
    padded[5:25, 10:40] = 200
    np.testing.assert_array_equal(cropped["image"], padded)
    # Boxes end where the image does, not where the padding does.
    np.testing.assert_array_equal(cropped["boxes"], [[10, 5, 40, 25]])


def test_faces_that_the_crop_cuts_by_more_than_allowed_are_ignored():
    # Of 20 px the window shows 11 and 12 of the first two, and .55 * .6 of the third.
    boxes = [[39, 30, 59, 40], [38, 30, 58, 40], [39, 12, 59, 32]]
    for max_cut, ignored in ((1.0, [False] * 3), (0.6, [False, False, True]), (0.42, [True, False, True])):
        cropped = augment.crop(_sample(boxes), tf.constant([20, 0, 50, 50]), max_cut=max_cut)
        np.testing.assert_array_equal(cropped["is_ignored"], ignored)


def test_shrinking_without_aliases():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    sample = _sample([[8, 8, 16, 24]], image=stripes)
    smooth = augment.random_resize(sample, (16, 16), _NO_SEED, antialias_probability=1.0)
    np.testing.assert_allclose(smooth["image"][2:-2, 2:-2], np.full((12, 12, 3), 63.75), atol=12)
    np.testing.assert_allclose(smooth["boxes"], [[2, 2, 4, 6]])
    # Enlarging has nothing to smooth, and stays one of three methods.
    large = [augment.random_resize(sample, (80, 80), tf.constant([1, 2]), antialias_probability=p) for p in (0.0, 1.0)]
    np.testing.assert_array_equal(large[0]["image"], large[1]["image"])


def test_each_resize_method_moves_faces_alike():
    sample = _random_sample(np.random.default_rng(1))
    images = []
    for seed in range(12):
        resized = augment.random_resize(sample, (30, 160), tf.constant([0, seed]))
        np.testing.assert_allclose(resized["boxes"], sample["boxes"] * [2, 0.5, 2, 0.5], rtol=1e-5)
        np.testing.assert_allclose(resized["landmarks"], sample["landmarks"] * [2, 0.5], rtol=1e-5)
        images.append(resized["image"].numpy().round(2).tobytes())
    assert len(set(images)) == 3


def test_letterbox_keeps_the_aspect():
    image = np.full((50, 100, 3), 250, np.uint8)
    boxed = augment.letterbox(_sample([[10, 20, 30, 40]], image=image), (64, 64))
    np.testing.assert_allclose(boxed["boxes"], [[6.4, 12.8, 19.2, 25.6]], rtol=1e-5)
    np.testing.assert_array_equal(boxed["image"][:31], np.full((31, 64, 3), 250))
    np.testing.assert_array_equal(boxed["image"][33:], np.full((31, 64, 3), image_lib.MEAN))


def test_mosaic_puts_dots_and_points_side_by_side():
    sizes = [(30, 40), (30, 50), (42, 40), (42, 50)]
    point = [20.5, 12.5]
    samples = [_sample([[15, 8, 26, 17]], [[point] * 5], image=_dot(size, point)) for size in sizes]
    joined = augment.mosaic(samples)
    assert joined["image"].shape == (72, 90, 3)
    corners = [[0, 0], [40, 0], [0, 30], [40, 30]]
    np.testing.assert_array_equal(joined["landmarks"][:, 0], np.array(corners) + point)
    np.testing.assert_array_equal(joined["boxes"][:, :2], np.array(corners) + [15, 8])
    for (left, top), (height, width) in zip(corners, sizes):
        np.testing.assert_allclose(_find(joined["image"][top : top + height, left : left + width]), point)


@pytest.mark.parametrize("native_scale", [(0.0, 0.0), (0.5, 0.5)])
def test_mosaic_in_the_whole(native_scale):
    config = _with(native_scale=native_scale, mosaic_probability=1.0, image_size=(97, 64))
    sample = dict(_sample([[50, 50, 90, 90]]), image_name=tf.constant("a"))
    result = augment.augment(sample, config, tf.constant([1, 2]), [lambda: sample] * 3)
    assert result["image"].shape == (97, 64, 3) and result["image_name"] == b"a"
    centre = 0.5 * (result["boxes"][:, :2] + result["boxes"][:, 2:]).numpy()
    quarters = {(x > 32, y > 48) for x, y in centre}
    assert len(centre) == len(quarters) == 4


_ALL = {
    "photometric_probability": 0.8,
    "grey_probability": 0.5,
    "blur_probability": 0.5,
    "jpeg_probability": 0.5,
    "zoom_out_probability": 0.5,
}


def test_same_seed_same_sample():
    config = _with(**_ALL)
    sample = dict(_random_sample(np.random.default_rng(2)), image_name=tf.constant("a.jpg"))
    run = tf.function(lambda seed: augment.augment(sample, config, seed))
    for seed in range(4):
        seed = tf.constant([seed, 5])
        one, again, eager = run(seed), run(seed), augment.augment(sample, config, seed)
        _assert_equal({**one, "image_name": 0}, {**again, "image_name": 0})
        # Rounding to grey levels may tip over by one between the two.
        assert np.abs(one["image"].numpy().astype(int) - eager["image"].numpy()).mean() < 0.05
        np.testing.assert_allclose(one["boxes"], eager["boxes"], atol=1e-4)
        assert one["image_name"] == b"a.jpg" and one["image"].dtype == tf.uint8
    different = run(tf.constant([9, 5]))["image"].numpy().astype(int) - one["image"].numpy()
    assert np.abs(different).mean() > 5


def test_no_faces_pass_through_everything():
    result = augment.augment(_sample([]), _with(**_ALL), _NO_SEED)
    assert result["boxes"].shape == (0, 4) and result["landmarks"].shape == (0, 5, 2)
    assert result["image"].shape == (96, 128, 3)


def test_photometric_is_one_linear_map():
    grey = np.full((4, 4, 3), 127.5, np.float32)
    grey[0] = 27.5
    fields = {"photometric_probability": 1.0, "hue": 0.0, "saturation": (1.0, 1.0), "brightness": 0.0}
    changed = augment.random_photometric(_sample([], image=grey), _with(contrast=(0.5, 0.5), **fields), _NO_SEED)
    # Contrast of a half about mid-grey: 127.5 stays, 100 under it becomes 50 under it.
    np.testing.assert_allclose(changed["image"][1:], grey[1:], atol=0.05)
    np.testing.assert_allclose(changed["image"][0], np.full((4, 3), 77.5), atol=0.05)
    fields["brightness"] = 0.1
    shifts = []
    for seed in range(40):
        config = _with(contrast=(1.0, 1.0), **fields)
        changed = augment.random_photometric(_sample([], image=grey), config, tf.constant([0, seed]))
        shift = changed["image"].numpy() - grey
        assert np.ptp(shift) < 0.05 and abs(shift).max() < 25.6
        shifts.append(shift.mean())
    assert min(shifts) < -15 and max(shifts) > 15


def test_grey_blur_and_jpeg():
    rng = np.random.default_rng(3)
    image = rng.uniform(0, 255, (24, 32, 3)).astype(np.float32)
    grey = augment.random_grey(_sample([], image=image), _with(grey_probability=1.0), _NO_SEED)["image"].numpy()
    luma = image @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey, np.repeat(luma[..., None], 3, -1), atol=0.2)

    config = _with(blur_probability=1.0)
    dot = np.zeros((21, 31, 3), np.float32)
    dot[10, 15] = 255
    blurred = augment.random_blur(_sample([], image=dot), config, _NO_SEED)["image"].numpy()
    np.testing.assert_allclose(blurred.sum((0, 1)), [255] * 3, rtol=1e-4)
    assert blurred[10, 15, 0] < 200 and blurred[10, 14, 0] == pytest.approx(blurred[11, 15, 0], rel=1e-4)
    flat = np.full((16, 16, 3), 90, np.float32)
    np.testing.assert_allclose(augment.random_blur(_sample([], image=flat), config, _NO_SEED)["image"], flat, rtol=1e-5)

    smooth = np.uint8(np.linspace(0, 255, 64)[None, :, None] * np.ones((32, 1, 3)))
    packed = augment.random_jpeg(_sample([], image=smooth), _with(jpeg_probability=1.0), _NO_SEED)["image"].numpy()
    error = np.abs(packed.astype(int) - smooth)
    assert 0 < error.mean() < 4


def test_small_faces_are_ignored():
    boxes = [[0, 0, 6, 20], [0, 0, 5.9, 20], [3, 3, 3, 9]]
    np.testing.assert_array_equal(augment.ignore_small(_sample(boxes), 6.0)["is_ignored"], [False, True, True])
    np.testing.assert_array_equal(augment.ignore_small(_sample(boxes), 0.0)["is_ignored"], [False, False, True])


def test_to_uint8_rounds():
    image = np.array([[[-3.0, 0.4, 0.6], [254.4, 254.6, 300.0]]], np.float32)
    np.testing.assert_array_equal(augment.to_uint8(_sample([], image=image))["image"], [[[0, 0, 1], [254, 255, 255]]])
