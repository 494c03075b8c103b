import zlib

import pytest
import tensorflow as tf

from keras_retinaface.geometry import orientation
from keras_retinaface.media import image_file
from tests import pictures

_BIG = b"ICC_PROFILE\0\1\1" + b"x" * 65000


def _app1(tiff):
    return 0xE1, b"Exif\0\0" + tiff


def _xmp(text):
    return 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + text


_exif = pictures.exif
_CASES = {
    "nothing": (1, pictures.jpeg_with()),
    "xmp": (6, pictures.jpeg_with(_xmp(pictures.XMP % 6))),
    "xmp as an element": (8, pictures.jpeg_with(_xmp("é\n<tiff:Orientation>8</tiff:Orientation>".encode()))),
    "exif before xmp": (3, pictures.jpeg_with(_xmp(pictures.XMP % 6), _app1(_exif(3)))),
    "exif that is none, and xmp": (1, pictures.jpeg_with(_app1(_exif(9)), _xmp(pictures.XMP % 6))),
    "exif without it, and xmp": (7, pictures.jpeg_with(_app1(b"MM\0*\0\0\0\x08" + b"\0" * 6), _xmp(pictures.XMP % 7))),
    "behind three large profiles": (8, pictures.jpeg_with(*[(0xE2, _BIG)] * 3, _app1(_exif(8)))),
    "only named in a comment": (1, pictures.jpeg_with((0xFE, b"Exif\0\0" + _exif(6)))),
    "behind fill bytes": (6, pictures.jpeg_with(_app1(_exif(6))).replace(b"\xff\xe1", b"\xff\xff\xff\xe1", 1)),
    "directory far behind": (6, pictures.jpeg_with(_app1(_exif(6, ">", gap=400)))),
    "long number": (5, pictures.jpeg_with(_app1(_exif(5, ">", kind=4)))),
    "two numbers": (6, pictures.jpeg_with(_app1(_exif(6, count=2)))),
    "bytes for numbers": (1, pictures.jpeg_with(_app1(_exif(6, kind=1)))),
    "cut off": (1, pictures.jpeg_with(_app1(_exif(6)[:30]))),
    "empty": (1, pictures.jpeg_with((0xE1, b"Exif\0\0"), (0xE1, b""))),
    "no tiff": (1, pictures.jpeg_with(_app1(b"II\1\1" + _exif(6)[4:]))),
    "directory outside": (1, pictures.jpeg_with(_app1(b"II*\0\xff\xff\xff\xff" + _exif(6)[8:]))),
    "png": (6, pictures.png_with((b"eXIf", _exif(6, ">")))),
    "png, as in a jpeg": (6, pictures.png_with((b"eXIf", b"Exif\0\0" + _exif(6)))),
    "png, behind the pixels": (7, pictures.png_with(behind=[(b"eXIf", _exif(7))])),
    "png, xmp": (4, pictures.png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + pictures.XMP % 4))),
    "png, only named": (1, pictures.png_with((b"tEXt", b"Comment\0eXIf"))),
}


@pytest.fixture(scope="module")
def read():
    return tf.function(orientation.read, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("name", _CASES)
def test_orientation_is_read_as_detection_reads_it(read, name):
    wanted, content = _CASES[name]
    assert int(read(content)) == wanted
    assert image_file.read_header(content, name).orientation == wanted


@pytest.mark.parametrize("chunk", [b"XML:com.adobe.xmp\0\1\0\0\0", b"Raw profile type exif\0\0"])
def test_what_a_graph_cannot_read_is_refused(read, chunk):
    name = b"iTXt" if chunk.startswith(b"XML") else b"zTXt"
    with pytest.raises(tf.errors.InvalidArgumentError, match="the orientation is compressed"):
        read(pictures.png_with((name, chunk + zlib.compress(pictures.XMP % 6))))
