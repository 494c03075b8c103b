import numpy as np
import tensorflow as tf

from data_pipeline import window
from keras_retinaface import config as config_lib

_PLAIN = config_lib.Augmentation(image_size=(96, 128), zoom_out_probability=0.0, background_probability=0.0)


def _with(**fields):
    return config_lib.Config(augmentation=_PLAIN).replace(**fields).augmentation


def _windows(boxes, is_ignored, size, config, num=300):
    @tf.function
    def choose(seed):
        return window.choose(
            tf.constant(boxes, tf.float32, [len(boxes), 4]),
            tf.constant(is_ignored, tf.bool, [len(boxes)]),
            tf.constant(size),
            config,
            seed,
        )

    return np.stack([choose(tf.constant([3, seed])).numpy() for seed in range(num)])


def test_windows_hold_a_face_and_vary():
    boxes, size = np.array([[10, 10, 40, 50], [150, 90, 190, 130], [90, 5, 92, 8]], np.float32), (150, 200)
    windows = _windows(boxes, [False, False, True], size, _with(image_size=(96, 96)))
    assert (windows[:, 2] == windows[:, 3]).all()
    assert (windows[:, :2] >= 0).all() and (windows[:, :2] + windows[:, 2:] <= size).all()
    assert windows[:, 2].min() >= 0.3 * 150 - 1 and windows[:, 2].max() <= 150
    assert windows[:, 2].min() < 50 and windows[:, 2].max() > 145
    high = windows[:, :2] + windows[:, 2:]
    holds = [(windows[:, :2] <= box[1::-1]).all(1) & (high >= box[:1:-1]).all(1) for box in boxes[:2]]
    assert (holds[0] | holds[1]).all()
    assert 0.3 < holds[0].mean() < 0.8 and 0.3 < holds[1].mean() < 0.8


def test_windows_without_faces_lie_anywhere_and_zoom_out_holds_the_image():
    windows = _windows(np.zeros((0, 4)), [], (150, 200), _with(image_size=(96, 96)))
    assert windows[:, 0].min() == 0 and (windows[:, 1] + windows[:, 3]).max() >= 195
    windows = _windows(np.zeros((0, 4)), [], (150, 200), _with(image_size=(96, 96), zoom_out_probability=1.0))
    assert windows[:, 2].min() >= 150 and windows[:, 2].max() > 280
    wide = windows[windows[:, 2] >= 200]
    assert (wide[:, :2] <= 0).all() and (wide[:, :2] + wide[:, 2:] >= [150, 200]).all()


def test_windows_in_pixels_do_not_depend_on_the_image():
    config = _with(image_size=(96, 192), crop_pixels=(60.0, 120.0), zoom_out_probability=1.0)
    box = np.array([[10, 10, 40, 50]], np.float32)
    for size in ((90, 100), (150, 200), (1000, 2000)):
        windows = _windows(box, [False], size, config)
        assert 60 <= windows[:, 2].min() < 66 and 114 < windows[:, 2].max() <= 120
        np.testing.assert_allclose(windows[:, 3], 2 * windows[:, 2], atol=1)
        assert (windows[:, :2] <= 10).all() and (windows[:, :2] + windows[:, 2:] >= [50, 40]).all()


def test_a_face_larger_than_any_crop_keeps_its_centre():
    # Larger than the largest crop; the centre is at thirds of a pixel, and the window may start close to it.
    for box in ([2.4, 0, 199, 150], [120.8, 0, 199.9, 150], [0, 3.3, 200, 148.2]):
        config = _with(image_size=(96, 96), crop_scale=(0.05, 0.05))
        box = np.float32(box)
        windows = _windows(box[None], [False], (150, 200), config, 200)
        centre = 0.5 * (box[:2] + box[2:])[::-1]
        assert (windows[:, :2] <= centre).all() and (centre <= windows[:, :2] + windows[:, 2:]).all()


def _native(boxes, is_ignored, size, num=300, **fields):
    config = _with(native_scale=(0.5, 2.0), **fields)

    @tf.function
    def choose(seed):
        boxes_ = tf.constant(boxes, tf.float32, [len(boxes), 4])
        ignored = tf.constant(is_ignored, tf.bool, [len(boxes)])
        return window.choose_native(boxes_, ignored, tf.constant(size), config, crop_size=(96, 128), seed=seed)

    return np.stack([choose(tf.constant([3, seed])).numpy() for seed in range(num)])


def test_native_windows_are_of_the_photos_own_scale():
    for size in ((1000, 2000), (90, 100)):
        windows = _native([[10, 10, 40, 50]], [False], size)
        scales = 96 / windows[:, 2]
        assert 0.5 <= scales.min() < 0.52 and 1.9 < scales.max() <= 2.0
        # Half of all factors lie under 1, though 1 is a third of the way.
        assert 0.4 < (scales < 1).mean() < 0.6
        np.testing.assert_allclose(windows[:, 3], windows[:, 2] * 128 / 96, atol=1)


def test_native_windows_have_the_centre_of_a_face_in_them():
    boxes = np.float32([[300, 200, 340, 250], [700, 500, 705, 505], [100, 600, 120, 620]])
    size = (800, 1000)
    windows = _native(boxes, [False, True, False], size)
    inside = []
    for x, y in 0.5 * (boxes[:, :2] + boxes[:, 2:]):
        low, high = windows[:, :2], windows[:, :2] + windows[:, 2:]
        inside.append(((low <= [y, x]) & ([y, x] <= high)).all(axis=1))
    assert (inside[0] | inside[2]).all() and 0.3 < inside[0].mean() < 0.7 and not inside[1].any()
    anywhere = _native(boxes, [False, True, False], size, background_probability=1.0)
    assert np.ptp(anywhere[:, 0]) > 600 and np.ptp(anywhere[:, 1]) > 800


def test_native_windows_leave_the_photo_by_an_eighth_of_their_side():
    size = np.array([800, 1000])
    windows = _native([[0, 0, 8, 8]], [False], tuple(size))
    assert (windows[:, :2] >= -windows[:, 2:] / 8 - 1).all() and (windows[:, :2] < 0).any()
    # A photo smaller than its crop lies in the middle; the centre is never outside.
    for row in _native(np.zeros((0, 4)), [], (40, 30), background_probability=1.0):
        centre = row[:2] + row[2:] / 2
        assert (centre >= 0).all() and (centre <= [40, 30]).all()
        if (row[2:] > [60, 50]).all():
            np.testing.assert_allclose(centre, [20, 15], atol=1)
