import math

import cv2
import numpy as np
import pytest

from keras_retinaface.inference import merging, overview
from keras_retinaface.inference import view as view_lib


def _plan(size, scale=1.0, fit=1.0, **options):
    return overview.plan(view_lib.views(size, [scale], **options), fit)


def _found(*rows):
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return merging.Detections(boxes, np.array([row[4] for row in rows], np.float32), np.zeros((len(rows), 5, 2)))


def _sharp(size):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def test_up_to_vga_there_is_one_view_as_ever():
    for size in ((480, 640), (640, 640), (16, 16)):
        assert _plan(size) == view_lib.views(size, [1.0])
    assert _plan((3000, 4000), 640 / 4000) == view_lib.views((3000, 4000), [640 / 4000])
    # A file for images of 640 x 480 shows the photo at that size.
    assert len(_plan((3000, 4000), fit=640 / 4000)) == 1


def test_sixteen_megapixels_worked_example():
    views = _plan((3468, 4624))
    assert [view.input_size for view in views] == [(3468, 4624), (867, 1156), (217, 289)]
    # 320 pixels of each picture, a quarter more and a fifth less where two answer.
    assert [view.face_sizes for view in views] == [(0, 400), (256, 1600), (1024, math.inf)]
    pixels = [view.input_size[0] * view.input_size[1] for view in views]
    assert sum(pixels) < 1.07 * pixels[0]


@pytest.mark.parametrize("long", [641, 1024, 5000, 20000])
def test_no_face_is_larger_than_the_network_sees_well(long):
    views = _plan((long, long))
    for side in np.geomspace(16, long, 50):
        answering = [view for view in views if view.face_sizes[0] <= side < view.face_sizes[1]]
        assert answering and all(side * view.scale <= overview.ENOUGH for view in answering)


def test_mirrored_views_and_tiles():
    views = _plan((1000, 1000), flip=True)
    assert [(view.level, view.is_flipped) for view in views] == [(0, False), (0, True), (1, False), (1, True)]
    tiled = _plan((3000, 3000), tile=1500)
    assert {view.input_size for view in tiled} == {(1500, 1500), (375, 375)}
    assert [view.level for view in tiled if view.is_whole] == [1, 2]


def test_each_view_answers_for_its_sizes():
    views = _plan((1000, 1000))
    small, large = (0, 0, 100, 100, 0.9), (200, 200, 900, 900, 0.9)
    full, quarter = overview.choose(_sharp((1000, 1000)), views, [_found(small, large), _found(small, large)])
    np.testing.assert_array_equal(full.boxes, [small[:4]])
    np.testing.assert_array_equal(quarter.boxes, [large[:4]])


def test_parts_of_a_larger_face_go_and_faces_in_front_of_it_stay():
    views, image = _plan((1000, 1000)), _sharp((1000, 1000))
    large, eye, child = (200, 200, 900, 900, 0.99), (300, 300, 400, 400, 0.95), (600, 600, 700, 700, 0.9)
    beside = (150, 500, 250, 600, 0.9)  # half of it inside
    full = _found(eye, child, beside)
    kept, _ = overview.choose(image, views, [full, _found(large, child)])
    np.testing.assert_array_equal(kept.boxes, [child[:4], beside[:4]])
    # A doubtful face over a crowd takes nobody away.
    kept, _ = overview.choose(image, views, [full, _found((*large[:4], 0.6))])
    assert len(kept.boxes) == 3


def test_what_only_a_magnified_picture_shows_is_no_face():
    views, sharp = _plan((1000, 1000)), _sharp((1000, 1000))
    photo = cv2.GaussianBlur(sharp[:250, :250], None, 1)  # neighbours are alike
    magnified = cv2.resize(photo, (1000, 1000), interpolation=cv2.INTER_CUBIC)
    found = [_found((100, 100, 250, 250, 0.9)), _found()]
    assert len(overview.choose(sharp, views, found)[0].boxes) == 1
    assert len(overview.choose(magnified, views, found)[0].boxes) == 0
    confirmed = [found[0], found[0]]
    assert len(overview.choose(magnified, views, confirmed)[0].boxes) == 1


def test_views_that_have_not_run_change_nothing():
    views = _plan((1000, 1000))
    full = _found((100, 100, 800, 800, 0.9))
    assert overview.choose(_sharp((1000, 1000)), views, [full, None]) == [full]
    assert overview.has_large(views, [full, None])
    assert not overview.has_large(views, [_found((100, 100, 300, 300, 0.9)), None])
