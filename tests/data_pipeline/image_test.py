import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from data_pipeline import image as image_lib
from keras_retinaface.media import image_file
from tests import pictures


def _encode(image, kind):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    return tf.constant(file.getvalue())


def _smooth(height=50, width=70):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 3 * columns, 255 - 3 * rows], -1).astype(np.uint8)


def _decode(encoded):
    image, fault = image_lib.decode(encoded)
    assert not fault.numpy()
    return image.numpy()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG"])
def test_size_and_pixels(kind):
    image = _smooth() // 64 * 64 if kind == "GIF" else _smooth()
    encoded = _encode(image, kind)
    np.testing.assert_array_equal(image_lib.size(encoded), [50, 70])
    error = np.abs(_decode(encoded).astype(int) - image)
    assert error.mean() < (0 if kind in ("PNG", "BMP") else 16) + 1e-9


def test_grey_images_have_three_channels():
    decoded = _decode(_encode(_smooth()[..., 0], "PNG"))
    np.testing.assert_array_equal(decoded, np.repeat(_smooth()[..., :1], 3, -1))


@pytest.mark.parametrize("window", [[0, 0, 50, 70], [11, 23, 17, 29], [-5, -9, 30, 40], [-10, -10, 90, 100]])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decoding_a_window_is_decoding_and_cropping(kind, window):
    encoded = _encode(_smooth(), kind)
    wanted = np.asarray(image_lib.crop(_decode(encoded), tf.constant(window))).astype(int)
    got, fault = (
        value.numpy() for value in image_lib.decode_window(encoded, image_lib.read_header(encoded), tf.constant(window))
    )
    assert not fault
    assert got.shape == (*window[2:], 3) and np.abs(got - wanted).max() <= (2 if kind == "JPEG" else 0)
    top, left, height, width = window
    padded = np.full((190, 200, 3), image_lib.MEAN)
    padded[60:110, 60:130] = _decode(encoded)
    np.testing.assert_array_equal(wanted, padded[60 + top :, 60 + left :][:height, :width])


def _files():
    """Encoded pictures of every kind and mode that both readers know."""
    photo = PIL.Image.fromarray(_smooth())
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7), dtype=np.uint16)
    palette = photo.quantize(11)
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        yield f"jpeg {mode}", pictures.encode(photo.convert(mode), "JPEG")
    cmyk = pictures.encode(photo.convert("CMYK"), "JPEG")
    start = cmyk.index(b"\xff\xee")
    yield "jpeg CMYK without Adobe's mark", cmyk[:start] + cmyk[start + 16 :]
    yield "jpeg progressive", pictures.encode(photo, "JPEG", progressive=True)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"png {mode}", pictures.encode(photo.convert(mode))
    yield "png of 16 bits", pictures.encode(deep)
    yield "png palette of 4 bits, transparent", pictures.encode(palette, bits=4, transparency=3)
    yield "png of a wrong checksum", pictures.encode(photo).replace(b"IEND\xaeB`\x82", b"IEND\xaeB`\x83")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bmp {mode}", pictures.encode(photo.convert(mode) if mode != "P" else palette, "BMP")
    second = palette.copy()
    second.paste(5, (20, 10, 50, 40))
    yield "gif", pictures.encode(palette, "GIF", save_all=True, append_images=[second])
    gif = bytearray(pictures.encode(palette, "GIF"))
    gif[6:10] = (90).to_bytes(2, "little") + (80).to_bytes(2, "little")  # a canvas larger than the first frame
    yield "gif smaller than its canvas", bytes(gif)
    for number in pictures.ORIENTATIONS:
        yield f"jpeg of orientation {number}", pictures.turned(_smooth(), number, subsampling=0)
    yield "png of orientation 6", pictures.turned(_smooth(), 6, "PNG", ">")


def test_training_sees_the_pixels_that_detection_sees():
    decode = tf.function(image_lib.decode, input_signature=[tf.TensorSpec([], tf.string)])
    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([4], tf.int32)]
    cut = tf.function(
        lambda file, window: image_lib.decode_window(file, image_lib.read_header(file), window)[0], signature
    )
    for name, content in _files():
        wanted = image_file.decode(content, name)
        image, fault = decode(content)
        assert not fault.numpy(), name
        np.testing.assert_array_equal(image, wanted, err_msg=name)
        if "subsampling" not in name and "jpeg" in name and "orientation" not in name:
            continue  # of these libjpeg mixes colours over a window's edge
        np.testing.assert_array_equal(cut(content, [1, 2, 7, 5]), wanted[1:8, 2:7], err_msg=name)


def test_a_graph_for_other_processes_reads_the_same_or_raises():
    signature = [tf.TensorSpec([], tf.string)]
    with image_lib.without_python():
        decode = tf.function(lambda file: image_lib.decode(file)[0], signature).get_concrete_function()
    for number in (1, 6):
        content = pictures.turned(_smooth(), number)
        np.testing.assert_array_equal(decode(tf.constant(content)), image_file.decode(content, "photo"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected a JPEG or PNG file"):
        decode(_encode(_smooth(), "BMP"))


@pytest.mark.parametrize(
    "content", [b"", b"text", pictures.encode(pictures.noise(20, 20))[:600], pictures.encode(_smooth(), "JPEG")[:400]]
)
def test_a_damaged_file_is_told_and_blank(content):
    header = image_lib.read_header(tf.constant(content))
    image, fault = image_lib.decode_window(tf.constant(content), header, tf.constant([0, 0, 8, 9]))
    np.testing.assert_array_equal(image, np.full((8, 9, 3), image_lib.MEAN))
    assert fault.numpy()
