import io

import numpy as np
import pytest
from PIL import Image

from keras_retinaface.media import image_metadata
from tests import pictures


def test_the_header_of_a_png_takes_none_of_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    for name, options in {"plain": {}, "turned": {"exif": exif}}.items():
        picture.save(tmp_path / name, "PNG", **options)
        content = (tmp_path / name).read_bytes()

        class Counting(io.BytesIO):
            taken = 0

            def read(self, *arguments):
                found = super().read(*arguments)
                Counting.taken += len(found)
                return found

        assert image_metadata.has_png_orientation(Counting(content)) == (name == "turned")
        assert Counting.taken < 1000 < len(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_pixels_do_not_need_is_taken_out_and_nothing_else(kind):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    picture = Image.fromarray(pictures.noise(40, 50))
    options = {"tiffinfo": {270: "a description", 274: 6}} if kind == "TIFF" else {"exif": exif}
    options |= {"lossless": True} if kind == "WEBP" else {}
    content = pictures.encode(picture, kind, icc_profile=b"profile " * 9, **options)
    stripped = image_metadata.strip(content)
    assert len(stripped) < len(content) or kind == "TIFF"  # whose new directory stands behind the old one
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(stripped)) as after:
        assert "icc_profile" in before.info and "icc_profile" not in after.info
        assert after.getexif()[0x0112] == 6
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
    assert image_metadata.strip(stripped) is None  # nothing more to take


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"II*\0\xff\0\0\0"])
def test_what_cannot_be_followed_is_left_alone(content):
    assert image_metadata.strip(content) in (None, b"RIFF\4\0\0\0WEBP")


def test_scans_are_those_of_the_first_picture():
    grey = Image.fromarray(pictures.noise(40, 50)[..., 0])
    content = pictures.encode(grey, "JPEG")
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"  # one more, which no decoder looks at
    assert image_metadata.count_scans(content) == image_metadata.count_scans(content[:-2] + scan + content[-2:]) == 1
    progressive = pictures.encode(grey, "JPEG", progressive=True)
    assert image_metadata.count_scans(progressive) == 6 == image_metadata.count_scans(progressive + progressive)
