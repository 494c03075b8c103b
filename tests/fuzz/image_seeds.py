"""Whole small pictures of every format that is read, with the metadata that phones and editors add."""

from __future__ import annotations

import importlib.util
import io

from PIL import Image, ImageCms, TiffImagePlugin

from tests import conftest

_ORIENTATION, _GPS = 0x0112, 0x8825
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def make() -> dict[str, bytes]:
    """Makes the pictures, by name and suffix."""
    photo = Image.open(conftest.ROOT / "examples" / "photos" / "astronaut.png").convert("RGB")
    photo = photo.crop((180, 60, 276, 140))
    frames = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    phone = exif()
    marked = {"exif": phone, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    deep = photo.convert("L").convert("I").point(lambda value: value * 257)
    seeds = {
        "exif.jpg": _save(photo, "JPEG", **marked, xmp=XMP, comment="a comment"),
        "progressive.jpg": _save(photo, "JPEG", progressive=True, quality=95, subsampling=0),
        "cmyk.jpg": _save(photo.convert("CMYK"), "JPEG"),
        "grey.jpg": _save(photo.convert("L"), "JPEG", optimize=True, restart_marker_blocks=4),
        "phone.mpo": _save(photo, "MPO", exif=phone, **frames),
        "rgba.png": _save(photo.convert("RGBA"), "PNG", **marked, pnginfo=_text()),
        "deep.png": _save(deep.convert("I;16"), "PNG", dpi=(72, 72)),
        "palette.png": _save(photo.quantize(64), "PNG", transparency=3),
        "bilevel.png": _save(photo.convert("1"), "PNG"),
        "animated.png": _save(photo, "PNG", **frames),
        "lossy.webp": _save(photo, "WEBP", **marked, xmp=XMP),
        "lossless.webp": _save(photo.convert("RGBA"), "WEBP", lossless=True),
        "animated.webp": _save(photo, "WEBP", **frames),
        "photo.avif": _save(photo, "AVIF", speed=10, exif=phone, icc_profile=marked["icc_profile"]),
        "photo.jp2": _save(photo, "JPEG2000", quality_mode="rates", quality_layers=[20]),
        "photo.j2k": _save(photo.convert("L"), "JPEG2000", no_jp2=True),
        "photo.bmp": _save(photo, "BMP"),
        "palette.bmp": _save(photo.quantize(256), "BMP"),
        "photo.gif": _save(photo, "GIF", comment=b"a comment"),
        "animated.gif": _save(photo, "GIF", **frames, duration=40, loop=0),
        "photo.ppm": _save(photo, "PPM"),
        "deep.pgm": _save(deep, "PPM"),
        "bilevel.pbm": _save(photo.convert("1"), "PPM"),
        "text.ppm": b"P3\n# a comment\n24 20\n255\n" + " ".join(map(str, photo.resize((24, 20)).tobytes())).encode(),
        "photo.tif": _save(photo, "TIFF", exif=phone, tiffinfo=_tags(), icc_profile=marked["icc_profile"]),
        "big.tif": _save(photo, "TIFF", big_tiff=True),
        "fax.tif": _save(photo.convert("1"), "TIFF", compression="group4"),
        "deep.tif": _save(deep.convert("I;16"), "TIFF", compression="tiff_lzw"),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma"):
        seeds[f"{compression}.tif"] = _save(photo, "TIFF", compression=compression)
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        seeds["photo.heic"] = _save(photo, "HEIF", exif=phone)
    return seeds


def _save(image: Image.Image, format_name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def exif() -> bytes:
    """Makes what a phone says of a photo: turned, by whom, when, where."""
    tags = Image.Exif()
    tags[_ORIENTATION] = 6
    tags[0x010F], tags[0x0110], tags[0x0132] = "A maker", "A model", "2020:02:20 20:20:20"
    tags[0x011A] = TiffImagePlugin.IFDRational(72, 1)
    tags.get_ifd(0x8769).update({0x829A: TiffImagePlugin.IFDRational(1, 100), 0x927C: bytes(range(64))})
    tags.get_ifd(_GPS).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return tags.tobytes()


def _text():
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a comment")
    text.add_text("Long", "a long comment " * 20, zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    return text


def _tags():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[305], tags[700] = "a description", "a program", XMP
    return tags
