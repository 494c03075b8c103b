import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_retinaface.media import image_file, picture

_IMAGE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def test_an_array_comes_back_as_it_is():
    assert picture.as_array(_IMAGE) is _IMAGE
    view = _IMAGE[:, ::-1]
    assert picture.as_array(view) is view


def test_paths_and_pillow_images_are_what_their_array_is(tmp_path):
    Image.fromarray(_IMAGE).save(tmp_path / "a.png")
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.open(tmp_path / "a.png"), Image.fromarray(_IMAGE)):
        np.testing.assert_array_equal(picture.as_array(given), _IMAGE)


class _Broken:
    def __array__(self, *_, **__):
        raise RuntimeError("on another device")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "must be a path, a Pillow image, or an array: .* Received: None"),
        (b"\xff\xd8", "Received: bytes"),
        ({1}, "Received: set"),
        (3, r"must be uint8 \[height, width, 3\], RGB. Received: int\d+ \[\]"),
        ([_IMAGE, _IMAGE], "`detect_batch` takes several. Received: list"),
        ([[1], [1, 2]], "Received: list"),
        (_Broken(), "Received: _Broken"),
        (object(), "Received: object$"),
        (_IMAGE[..., :2], r"Received: uint8 \[4, 5, 2\]"),
        (_IMAGE.astype(np.int32), r"Received: int32 \[4, 5, 3\]"),
        (_IMAGE[:, :0], r"Received: uint8 \[4, 0, 3\]"),
        (Image.new("RGB", (3, 0)), "`images\\[2\\]` must have pixels. Received: 3 x 0"),
    ],
)
def test_what_is_no_picture_is_told_by_the_argument(given, message):
    with pytest.raises(ValueError, match=message) as raised:
        picture.as_array(given, "images[2]")
    assert "images[2]" in str(raised.value) or isinstance(raised.value, image_file.ImageError)


def test_a_picture_that_was_closed_is_told(tmp_path):
    Image.fromarray(_IMAGE).save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    with pytest.raises(ValueError, match="`image` cannot be read: "):
        picture.as_array(image)


def test_one_picture_is_told_from_several():
    assert all(map(picture.is_one, ("a.jpg", b"a", pathlib.Path("a"), Image.new("L", (1, 1)), _IMAGE, _IMAGE[0])))
    assert not any(map(picture.is_one, ([_IMAGE], (), iter(()), _IMAGE[None])))
