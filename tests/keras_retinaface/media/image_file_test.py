import numpy as np
import pytest
from PIL import Image

from keras_retinaface.media import image_file


def _grey_ramp():
    return np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def test_grey_alpha_and_palette_become_rgb(tmp_path):
    grey = Image.fromarray(_grey_ramp())
    for mode in ("L", "LA", "RGBA", "P"):
        path = tmp_path / f"{mode}.png"
        grey.convert(mode).save(path)
        np.testing.assert_array_equal(image_file.read(path), np.repeat(_grey_ramp()[..., None], 3, -1))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(path)
    np.testing.assert_array_equal(image_file.read(path)[0, :, 0], [0, 1, 128, 255])


def test_cmyk_is_converted(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path)  # magenta and yellow ink: red
    red = image_file.read(path)[8, 8].astype(int)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (20, 10))
    image.paste((255, 255, 255), (0, 0, 10, 10))  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise: left becomes top
    path = tmp_path / "turned.jpg"
    image.save(path, exif=exif, quality=95)
    turned = image_file.read(path)
    assert turned.shape == (20, 10, 3)
    assert turned[:8].min() > 200 and turned[12:].max() < 60


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"no image at all", "not a readable image"), (None, "no such file")],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(image_file.ImageError, match=f"photo.jpg: {message}"):
        image_file.read(path)


def test_a_truncated_photo_is_named(tmp_path, photos):
    path = tmp_path / "cut.jpg"
    path.write_bytes((photos / "fr_obama.jpg").read_bytes()[:20_000])
    with pytest.raises(image_file.ImageError, match="cut.jpg: not a readable image"):
        image_file.read(path)


def test_float_pixels_are_refused(tmp_path):
    path = tmp_path / "float.tiff"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(image_file.ImageError, match="floating-point pixels"):
        image_file.read(path)


def test_find_takes_folders_globs_and_names(tmp_path):
    for name in ("b.png", "sub/a.JPG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    in_folder = [p[len(str(tmp_path)) + 1 :] for p in image_file.find(str(tmp_path))]
    assert in_folder == ["b.png", "sub/a.JPG"]
    assert image_file.find(f"{tmp_path}/**/*.JPG") == [str(tmp_path / "sub" / "a.JPG")]
    assert image_file.find(f"{tmp_path}/missing.png") == [f"{tmp_path}/missing.png"]


def test_write_leaves_one_whole_file(tmp_path):
    image = np.repeat(_grey_ramp()[..., None], 3, -1)
    image_file.write(tmp_path / "out.png", image)
    np.testing.assert_array_equal(image_file.read(tmp_path / "out.png"), image)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
