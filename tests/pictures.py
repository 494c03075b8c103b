"""Small encoded pictures for tests: any orientation, written by every way that there is."""

import io
import struct
import zlib

import numpy as np
import PIL.Image

# How the pixels of an upright image lie in a file of each orientation.
_STORED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image[:, ::-1].transpose(1, 0, 2),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image[::-1].transpose(1, 0, 2),
}
ORIENTATIONS = tuple(_STORED)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def encode(image, kind="PNG", **options):
    """Encodes an array or a Pillow image."""
    file = io.BytesIO()
    image = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, kind, **options)
    return file.getvalue()


def turned(image, orientation, kind="JPEG", order="<", **options):
    """Encodes an upright image as a camera does that is held in another way."""
    stored = np.ascontiguousarray(_STORED[orientation](image))
    return encode(stored, kind, exif=b"Exif\0\0" + exif(orientation, order), **options)


def exif(orientation, order="<", kind=3, count=1, gap=0):
    """Returns a TIFF directory of three tags, one of them the orientation."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + gap) + b"\0" * gap
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *((orientation, 0) if kind == 3 else (orientation,)))
    tags = [struct.pack(order + "HHII", 0x100, 4, 1, 9), struct.pack(order + "HHI", 0x112, kind, count) + value]
    return (
        start + struct.pack(order + "H", 3) + b"".join(tags) + struct.pack(order + "HHII", 0x131, 4, 1, 9) + b"\0" * 4
    )


def jpeg_with(*segments):
    """Returns a small JPEG with segments, pairs of a marker's second byte and content, in front."""
    content = encode(noise(), "JPEG")
    packed = [b"\xff" + bytes([marker]) + struct.pack(">H", len(text) + 2) + text for marker, text in segments]
    return content[:2] + b"".join(packed) + content[2:]


def png_with(*chunks, behind=()):
    """Returns a small PNG with chunks, pairs of name and content, before and behind its pixels."""
    content = encode(noise())

    def pack(name, text):
        return struct.pack(">I", len(text)) + name + text + struct.pack(">I", zlib.crc32(name + text))

    first, last = (b"".join(pack(*chunk) for chunk in some) for some in (chunks, behind))
    return content[:33] + first + content[33:-12] + last + content[-12:]


def noise(height=6, width=9):
    """Returns uint8 `[height, width, 3]` in which no two pixels are alike."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
