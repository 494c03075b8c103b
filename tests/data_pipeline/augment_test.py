import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import augment, image
from keras_retinaface import config as config_lib

# Everything that moves pixels and nothing that changes their colour.
MOVES = config_lib.Augmentation(image_size=(256, 256), photometric_probability=0.0, min_face=0.0)
KEYS = ("image", *augment.FACE_KEYS)


def _tensors(sample):
    return {key: tf.constant(value) for key, value in sample.items()}


def _assert_equal(sample, other):
    for key in KEYS:
        np.testing.assert_array_equal(sample[key], other[key], err_msg=key)


def _assert_points_on_dots(sample, find_dots, tolerance, swapped=None):
    """Every visible landmark lies on a dot of its colour, or of the colour of its mirror image."""
    pixels, num_found = sample["image"].numpy(), 0
    sides = [(0, 1), (1, 0), (2, 2), (3, 4), (4, 3)]
    for points, visible in zip(sample["landmarks"].numpy(), sample["landmark_visible"].numpy()):
        for point, is_visible, shades in zip(points, visible, sides):
            if is_visible and (point > 8).all() and (point < np.array(pixels.shape[1::-1]) - 8).all():
                shade = shades if swapped is None else shades[swapped : swapped + 1]
                dots = [dot for index in shade for dot in find_dots(pixels, index)]
                assert dots and min(np.abs(dot - point).max() for dot in dots) < tolerance, (point, dots)
                num_found += 1
    return num_found


def test_flip_twice_is_identity(scene):
    sample = _tensors(scene())
    sample["landmark_visible"] = tf.constant([[True, False, True, False, True]])
    _assert_equal(augment.flip(augment.flip(sample)), sample)


def test_flip_moves_boxes_and_swaps_left_and_right(scene, find_dots):
    flipped = augment.flip(_tensors(scene()))
    # 400 wide: x 140..240 becomes 160..260.
    np.testing.assert_array_equal(flipped["boxes"], [[160, 90, 260, 210]])
    assert _assert_points_on_dots(flipped, find_dots, 0.6, swapped=1) == 5
    x = flipped["landmarks"].numpy()[0, :, 0]
    assert x[0] < x[1] and x[3] < x[4]


def test_crop_worked_example(scene):
    sample = _tensors(scene(boxes=[(10, 10, 30, 30), (190, 10, 230, 30), (195, 40, 235, 60), (300, 200, 340, 240)]))
    cropped = augment.crop(sample, tf.constant([0, 0, 100, 212]))
    # The second face's centre, 210, is inside; the third's, 215, is not: what is in sight is ignored. No trace of the
    # fourth.
    np.testing.assert_array_equal(cropped["boxes"], [[10, 10, 30, 30], [190, 10, 212, 30], [195, 40, 212, 60]])
    np.testing.assert_array_equal(cropped["is_ignored"], [False, False, True])
    # Points at 202.5, 218.5, 210.5, 204.5 and 216.5.
    np.testing.assert_array_equal(cropped["landmark_visible"][1], [True, False, True, True, False])


def test_a_crop_beyond_the_border_shows_all_of_a_face(scene, find_dots):
    cropped = augment.crop(_tensors(scene()), tf.constant([-50, -60, 500, 520]))
    np.testing.assert_array_equal(cropped["boxes"], [[200, 140, 300, 260]])
    assert _assert_points_on_dots(cropped, find_dots, 0.6, swapped=0) == 5


def test_encoded_and_decoded_images_are_cropped_alike(photos):
    encoded = tf.io.read_file(str(photos / "tfjs_portrait.jpg"))
    faces = {
        "boxes": tf.constant([[100.0, 100.0, 200.0, 220.0]]),
        "landmarks": tf.fill([1, 5, 2], 150.0),
        "landmark_visible": tf.fill([1, 5], True),
        "is_ignored": tf.constant([False]),
    }
    one = augment.random_crop({**faces, "image_bytes": encoded}, MOVES, [3, 4])
    other = augment.random_crop({**faces, "image": image.decode(encoded)}, MOVES, [3, 4])
    for key in augment.FACE_KEYS:
        np.testing.assert_array_equal(one[key], other[key])
    assert np.abs(one["image"].numpy().astype(float) - other["image"].numpy()).mean() < 0.5


@pytest.mark.parametrize("zoom_out", [0.0, 1.0])
def test_windows_hold_a_whole_face_and_are_square(zoom_out):
    config = dataclasses.replace(MOVES, background_probability=0.0, zoom_out_probability=zoom_out)
    boxes = np.array([[5, 5, 25, 30], [300, 200, 420, 330], [610, 380, 640, 400]], np.float32)
    is_ignored, size = [False, False, True], (400, 640)
    choose = tf.function(lambda seed: augment.choose_window(boxes, is_ignored, size, config, seed))
    windows = np.array([choose(tf.constant([0, seed])).numpy() for seed in range(400)])
    top, left, height, width = windows.T
    assert (height == width).all()
    low, high = (400, 800) if zoom_out else (120, 400)
    assert height.min() >= low and height.max() <= high
    if zoom_out:
        assert ((top <= 0) & (top + height >= 400)).all()
    else:
        assert (top.min(), left.min()) >= (0, 0) and (top + height).max() <= 400 and (left + width).max() <= 640
        # Small and large alike: a tenth of the range at each end has its share, and the places fill the image.
        assert (height < 150).sum() > 10 and (height > 370).sum() > 10 and np.ptp(left) > 250
    holds = (boxes[:2, 0] >= left[:, None]) & (boxes[:2, 1] >= top[:, None])
    holds &= (boxes[:2, 2] <= (left + width)[:, None]) & (boxes[:2, 3] <= (top + height)[:, None])
    # The ignored face is not what a crop is made for.
    assert holds.any(axis=1).all() and holds.sum(axis=0).min() > 100


def test_windows_of_images_without_faces_and_with_a_face_larger_than_any_crop():
    config = dataclasses.replace(MOVES, background_probability=0.0, zoom_out_probability=0.0)
    for seed in range(50):
        window = augment.choose_window(tf.zeros([0, 4]), tf.zeros([0], tf.bool), (400, 640), config, [1, seed])
        assert window[0] >= 0 and window[1] + window[3] <= 640
        box = tf.constant([[20.0, 0.0, 620.0, 400.0]])
        top, left, height, width = augment.choose_window(box, [False], (400, 640), config, [1, seed]).numpy()
        assert (top, height, width) == (0, 400, 400) and left <= 320 <= left + width


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_boxes_and_landmarks_move_with_the_pixels(scene, find_dots, mosaic):
    # A quarter of a mosaic has half the scale, and a dot must stay large enough to be found.
    size, zoom_out = ((512, 512), 0.0) if mosaic else ((256, 256), 0.3)
    config = dataclasses.replace(MOVES, image_size=size, mosaic_probability=mosaic, zoom_out_probability=zoom_out)
    sample = _tensors(scene())

    @tf.function
    def run(seed):
        return augment.augment(sample, config, seed, [lambda: sample] * 3)

    num_found = 0
    for seed in range(25):
        moved = run(tf.constant([7, seed]))
        assert moved["image"].shape == (*size, 3)
        # Dots have seven pixels, and shrink or grow with the crop; half a pixel of each counts.
        num_found += _assert_points_on_dots(moved, find_dots, 3.0)
        x = moved["landmarks"].numpy()[..., 0]
        assert (x[:, 0] < x[:, 1]).all() and (x[:, 3] < x[:, 4]).all()
        nose, box, is_seen = moved["landmarks"][:, 2], moved["boxes"], moved["landmark_visible"][:, 2]
        is_inside = tf.reduce_all((nose >= box[:, :2] - 1) & (nose <= box[:, 2:] + 1), axis=-1)
        assert tf.reduce_all(is_inside | ~is_seen)
    assert num_found > (300 if mosaic else 75)


def test_letterbox_keeps_the_aspect(scene, find_dots):
    fitted = augment.letterbox(_tensors(scene()), (320, 200))
    # 300 x 400 into 320 x 200: halved to 150 x 200.
    np.testing.assert_allclose(fitted["boxes"], [[70, 45, 120, 105]])
    assert fitted["image"].shape == (320, 200, 3)
    np.testing.assert_array_equal(fitted["image"][151:], np.full((169, 200, 3), 115))
    assert _assert_points_on_dots(augment.to_uint8(fitted), find_dots, 1.0, swapped=0) == 5


def test_the_seed_decides_and_all_of_it(scene):
    config = config_lib.Augmentation(
        image_size=(64, 64), grey_probability=0.5, blur_probability=0.5, jpeg_probability=0.5, mosaic_probability=0.5
    )
    sample = _tensors(scene())

    def run(seed):
        return augment.augment(sample, config, seed, [lambda: sample] * 3)

    graph = tf.function(run)
    for seed in ([0, 1], [0, 2], [1, 1]):
        _assert_equal(run(tf.constant(seed)), graph(tf.constant(seed)))
    images = [graph(tf.constant([0, seed]))["image"].numpy() for seed in range(10)]
    assert all((images[0] != other).any() for other in images[1:])


def test_photometric_worked_example():
    config = dataclasses.replace(
        MOVES, photometric_probability=1.0, brightness=0.0, contrast=(0.5, 0.5), hue=0.0, saturation=(1.0, 1.0)
    )
    changed = augment.random_photometric({"image": tf.constant([[[0, 100, 255]]], tf.uint8)}, config, [0, 0])
    # Half the contrast about 127.5.
    np.testing.assert_allclose(changed["image"], [[[63.75, 113.75, 191.25]]], atol=0.2)


def test_probabilities_are_met_and_zero_does_nothing(scene):
    sample = _tensors(scene(60, 80, [(10, 10, 50, 50)]))
    for name, function in (
        ("flip_probability", augment.random_flip),
        ("photometric_probability", augment.random_photometric),
        ("grey_probability", augment.random_grey),
        ("blur_probability", augment.random_blur),
        ("jpeg_probability", augment.random_jpeg),
    ):
        for probability, low, high in ((0.0, 0, 0), (0.3, 5, 28), (1.0, 50, 50)):
            config = dataclasses.replace(MOVES, **{name: probability})
            run = tf.function(lambda seed, f=function, c=config: f(sample, c, seed)["image"])
            changed = [(run(tf.constant([0, seed])).numpy() != sample["image"].numpy()).any() for seed in range(50)]
            assert low <= sum(changed) <= high, (name, probability, sum(changed))


def test_grey_blur_and_jpeg_do_what_they_say(scene):
    config = dataclasses.replace(MOVES, grey_probability=1.0, blur_probability=1.0, jpeg_probability=1.0)
    sample = _tensors(scene())
    before = sample["image"].numpy().astype(float)
    grey = augment.random_grey(sample, config, [0, 0])["image"].numpy()
    assert np.ptp(grey, axis=-1).max() < 0.5
    blurred = augment.random_blur(sample, config, [0, 1])["image"].numpy()
    # Less steep, as bright, and the border as it was.
    assert np.abs(np.diff(blurred, axis=0)).max() < 0.9 * np.abs(np.diff(before, axis=0)).max()
    np.testing.assert_allclose(blurred.mean(), before.mean(), rtol=1e-3)
    np.testing.assert_allclose(blurred[0], before[0], atol=1e-3)
    encoded = augment.random_jpeg(sample, config, [0, 2])["image"].numpy()
    assert 0 < np.abs(encoded - before).mean() < 10


def test_small_faces_and_faces_without_area_are_ignored():
    boxes = tf.constant([[0.0, 0.0, 6.0, 9.0], [0.0, 0.0, 5.9, 9.0], [3.0, 3.0, 3.0, 30.0]])
    sample = {"boxes": boxes, "is_ignored": tf.constant([False, False, False])}
    np.testing.assert_array_equal(augment.ignore_small(sample, 6.0)["is_ignored"], [False, True, True])
    np.testing.assert_array_equal(augment.ignore_small(sample, 0.0)["is_ignored"], [False, False, True])
