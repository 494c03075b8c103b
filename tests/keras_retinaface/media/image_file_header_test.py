import os

import pytest
from PIL import Image

from keras_retinaface.media import image_file
from tests import pictures


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_headers_tell_the_size_of_what_is_read(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a"
    Image.fromarray(pictures.noise(40, 50)).save(path, kind, exif=exif)
    size = image_file.read(path).shape[:2]
    for content in (path, path.read_bytes()):
        header = image_file.read_header(content, "a")
        assert (header.height, header.width) == size


def test_headers_are_refused_and_let_through_as_pixels_are(tmp_path):
    chunks = {"icc_profile": b"a" * 3_000_000}  # unpacks to more than Pillow allows a chunk
    Image.fromarray(pictures.noise()).save(tmp_path / "profile.png", **chunks)
    assert (
        image_file.read(tmp_path / "profile.png").shape[:2] == image_file.read_header(tmp_path / "profile.png", "")[1:3]
    )
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("bomb.png", "pipe.png"):
        with pytest.raises(image_file.ImageError) as by_pixels:
            image_file.read(tmp_path / name)
        with pytest.raises(image_file.ImageError) as by_header:
            image_file.read_header(tmp_path / name, tmp_path / name)
        assert str(by_header.value) == str(by_pixels.value)
