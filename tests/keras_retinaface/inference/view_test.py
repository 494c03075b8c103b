import cv2
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.inference import view as view_lib


@pytest.mark.parametrize(
    "text, expected",
    [("original", "original"), ("640,1024", (640, 1024)), (" 1280 ", 1280), ("800, 1200", (800, 1200))],
)
def test_parse_size_reads_the_flag(text, expected):
    assert view_lib.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "big", "640,", "1,2,3", "-5", "0,640", "1.5"])
def test_parse_size_names_what_came(text):
    with pytest.raises(ValueError, match=r"`image_size` must be 'original', 'SHORT,LONG' or 'LONG', pixels. Received"):
        view_lib.parse_size(text)


def test_scale_worked_examples():
    # 600 x 800. Short side to 1200 is a factor of 2, unless the long side (1600) may only be 1400.
    assert view_lib.scale_of((600, 800), "original") == 1
    assert view_lib.scale_of((600, 800), 400) == 0.5
    assert view_lib.scale_of((600, 800), (1200, 1600)) == 2
    assert view_lib.scale_of((800, 600), (1200, 1400)) == 1400 / 800
    assert view_lib.pyramid((1000, 2000)) == [0.5, 0.8, 1.1, 1.4, 1.7]


def test_tiles_cover_the_image_and_overlap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width, tile = (int(v) for v in rng.integers(1, [400, 400, 200]))
        overlap = int(rng.integers(0, tile))
        if tile - overlap < 5:
            continue
        seen = np.zeros((height, width), int)
        rectangles = view_lib.tiles((height, width), tile, overlap)
        for x1, y1, x2, y2 in rectangles:
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
            assert (x2 - x1, y2 - y1) == (min(tile, width), min(tile, height))
            seen[y1:y2, x1:x2] += 1
        assert seen.min() >= 1
        lefts = sorted({x1 for x1, *_ in rectangles})
        assert all(a + tile - b >= overlap for a, b in zip(lefts, lefts[1:]))
        # Any square as large as the overlap lies whole in some tile.
        x, y = rng.integers(0, max(1, width - overlap)), rng.integers(0, max(1, height - overlap))
        right, bottom = min(width, x + overlap), min(height, y + overlap)
        assert any(x1 <= x and y1 <= y and right <= x2 and bottom <= y2 for x1, y1, x2, y2 in rectangles)


def test_tiles_worked_example():
    # 1000 wide with tiles of 400 that share 100: starts at 0, 300, 600.
    assert view_lib.tiles((300, 1000), 400, 100) == [(0, 0, 400, 300), (300, 0, 700, 300), (600, 0, 1000, 300)]


def test_views_of_one_scale_is_the_whole_image():
    (view,) = view_lib.views((480, 640), [1.0])
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    assert view.is_whole
    np.testing.assert_array_equal(view_lib.cut(image, view), image)


def test_views_flip_doubles_and_mirrors():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    plain, mirrored = view_lib.views((20, 30), [1.0], flip=True)
    np.testing.assert_array_equal(view_lib.cut(image, mirrored), view_lib.cut(image, plain)[:, ::-1])


def test_views_tile_only_what_is_too_large_and_add_an_overview():
    found = view_lib.views((2160, 3840), [1.0, 0.25], tile=1024)
    assert [view.is_whole for view in found].count(True) == 1 and found[-1].input_size == (540, 960)
    assert {view.input_size for view in found[:-1]} == {(1024, 1024)}
    only_tiles = view_lib.views((2160, 3840), [1.0], tile=1024)
    assert only_tiles[-1].is_whole and only_tiles[-1].input_size == (576, 1024)
    assert all(max(view.input_size) <= 1024 for view in view_lib.views((2160, 3840), [1.3, 0.7], tile=1024))


def test_cut_shrinks_by_averaging():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (view,) = view_lib.views((64, 64), [0.25])
    # Each output pixel is the mean of its 4 x 4 input pixels.
    expected = image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(view_lib.cut(image, view) - expected).max() <= 1


@pytest.mark.parametrize("size", [(400, 600), (402, 598), (401, 599)])
def test_cut_by_halves_shows_the_same_places(size):
    # A ramp each way: a picture that is shifted by a tenth of a pixel would differ.
    rows, columns = np.meshgrid(*(np.linspace(0, 255, side) for side in size), indexing="ij")
    image = np.stack([rows, columns, rows], -1).round().astype(np.uint8)
    (view,) = view_lib.views(size, [0.23])
    height, width = view.input_size
    expected = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    difference = view_lib.cut(image, view) - expected
    assert np.abs(difference).max() < 1.1 and np.abs(difference.mean(axis=(0, 1))).max() < 0.5


def test_errors_name_what_came():
    with pytest.raises(ValueError, match=r"`factors` must be positive. Received: \[0.0\]"):
        view_lib.views((10, 10), [0.0])
    with pytest.raises(ValueError, match=r"`overlap` must be in \[0, tile\). Received: overlap=8, tile=8"):
        view_lib.tiles((10, 10), 8, 8)
    with pytest.raises(ValueError, match=r"`image_size` must be \(height, width\), positive. Received: \(0, 5\)"):
        view_lib.scale_of((0, 5), 640)
    with pytest.raises(ValueError, match=r"`size` must be 'original', a number or a pair. Received: 'large'"):
        view_lib.scale_of((5, 5), "large")
    with pytest.raises(ValueError, match=r"`view` is of an image of \(8, 8\). Received: an image of \(8, 9\)"):
        view_lib.cut(np.zeros((8, 9, 3)), view_lib.views((8, 8), [1.0])[0])


def test_letterbox_keeps_the_shape_and_pads():
    image = np.full((50, 100, 3), 200, np.uint8)
    fitted, scale = view_lib.letterbox(image, (200, 160))
    assert scale == 1.6 and fitted.shape == (200, 160, 3)
    assert fitted[:80].min() == 200 and np.all(fitted[80:] == config_lib.PADDING)
