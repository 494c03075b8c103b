import numpy as np
import pytest
from PIL import Image

from keras_retinaface.media import image_file, upright


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(path)
    np.testing.assert_array_equal(image_file.read(path)[0, :, 0], [0, 1, 128, 255])


def test_cmyk_is_converted(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path)  # magenta and yellow ink: red
    red = image_file.read(path)[8, 8].astype(int)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_float_pixels_are_refused(tmp_path):
    path = tmp_path / "float.tiff"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(image_file.ImageError, match="floating-point pixels"):
        image_file.read(path)


_MARKED = np.array([[9, 0, 0], [0, 0, 0]], np.uint8)  # upright, its mark is upper left


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[9, 0, 0], [0, 0, 0]]),
        (2, [[0, 0, 9], [0, 0, 0]]),
        (3, [[0, 0, 0], [0, 0, 9]]),
        (4, [[0, 0, 0], [9, 0, 0]]),
        (5, [[9, 0], [0, 0], [0, 0]]),
        (6, [[0, 9], [0, 0], [0, 0]]),
        (7, [[0, 0], [0, 0], [0, 9]]),
        (8, [[0, 0], [0, 0], [9, 0]]),
        (0, [[9, 0, 0], [0, 0, 0]]),
        (9, [[9, 0, 0], [0, 0, 0]]),
    ],
)
def test_a_picture_is_turned_as_its_tag_says(orientation, expected):
    image = Image.fromarray(_MARKED)
    image.getexif()[0x0112] = orientation
    assert upright.orientation(image) == (orientation if 1 <= orientation <= 8 else 1)
    shown = upright.to_rgb(image, "a")
    np.testing.assert_array_equal(shown, np.repeat(np.array(expected, np.uint8)[..., None], 3, axis=2))


def test_a_tag_that_is_no_number_turns_nothing():
    image = Image.fromarray(_MARKED)
    image.getexif()[0x0112] = "6"
    assert upright.orientation(image) == 1
