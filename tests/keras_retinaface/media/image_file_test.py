import io
import logging
import os
import resource
import struct
import sys
import warnings
from concurrent import futures

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from keras_retinaface.media import image_file, image_metadata


def _grey_ramp():
    return np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def test_grey_alpha_and_palette_become_rgb(tmp_path):
    grey = Image.fromarray(_grey_ramp())
    for mode in ("L", "LA", "RGBA", "P"):
        path = tmp_path / f"{mode}.png"
        grey.convert(mode).save(path)
        np.testing.assert_array_equal(image_file.read(path), np.repeat(_grey_ramp()[..., None], 3, -1))


def _corner():
    """White in the upper left quarter only, 32 x 16, so that each turn gives another picture."""
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16] = 255
    return image


# What a viewer shows of `_corner` for each orientation.
_SHOWN = {
    **{1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1]},
    **{5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1)},
    **{8: np.rot90},
}


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif", "a.avif", "a.heic"])
def test_pictures_are_upright_by_exif(tmp_path, name, orientation):
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 95}}.get(name[-5 if "webp" in name else -4 :], {})
    if name.endswith(".heic"):
        pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    if name == "lzw.tif":
        if orientation not in _SHOWN:
            pytest.skip("libtiff writes no such orientation")
        options = {"compression": "tiff_lzw"}
    Image.fromarray(_corner()).save(tmp_path / name, exif=exif.tobytes(), **options)
    expected = _SHOWN.get(orientation, _SHOWN[1])(_corner())
    image = image_file.read(tmp_path / name)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3


def _segment(marker, body):
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + b"\0\0\0\0"  # a wrong sum, as editors leave


def _odd(kind):
    """Returns a picture whose pixels are whole and whose metadata is not, and the suffix that it has."""
    file = io.BytesIO()
    format_name = kind.split()[0]
    tags = {"tiffinfo": {270: "a description"}} if format_name == "TIFF" else {}
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0\xff\xff" + bytes(range(40))
    if format_name == "WEBP":
        tags = {"exif": exif, "lossless": True}
    elif format_name == "AVIF":
        whole = Image.Exif()
        whole[270] = "a description"
        tags = {"exif": whole, "quality": 100}
    Image.fromarray(_corner()).save(file, format_name, **tags)
    content = file.getvalue()
    if format_name == "JPEG":
        odd = {
            "JPEG width is a ratio": exif[:6]
            + struct.pack("<2sHIHHHIIIII", b"II", 42, 8, 1, 0x0100, 5, 1, 26, 0, 1, 3),
            "JPEG exif is noise": exif,
            "JPEG many pictures": b"MPF\0II*\0\x08\0\0\0\x02\0" + bytes(range(48)),
            "JPEG profile is empty": b"ICC_PROFILE\0",
        }[kind]
        return content[:2] + _segment(0xE1 if b"Exif" in odd else 0xE2, odd) + content[2:]
    if format_name == "PNG":
        odd = {"PNG text": (b"tEXt", b"\xff\0"), "PNG sizes": (b"pHYs", b"\0"), "PNG exif": (b"eXIf", exif)}[kind]
        return content[:33] + _chunk(*odd) + content[33:]
    if format_name == "AVIF":
        return content.replace(tags["exif"].tobytes()[6:14], b"no TIFF!")
    if kind == "TIFF xmp is a number":
        return content.replace(struct.pack("<HH", 270, 2), struct.pack("<HH", 700, 4))
    return content


@pytest.mark.parametrize(
    "kind",
    [
        *("JPEG width is a ratio", "JPEG exif is noise", "JPEG many pictures", "JPEG profile is empty", "PNG text"),
        *("PNG sizes", "PNG exif", "WEBP exif is noise", "AVIF exif is noise", "TIFF xmp is a number"),
    ],
)
def test_odd_metadata_does_not_cost_the_picture(tmp_path, kind):
    (tmp_path / "odd").write_bytes(_odd(kind))
    image = image_file.read(tmp_path / "odd")
    assert np.abs(image.astype(int) - _corner()).mean() < 5


def test_a_turn_counts_where_other_metadata_is_odd(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(_corner()).save(file, "PNG", exif=exif)
    content = file.getvalue()
    (tmp_path / "odd.png").write_bytes(content[:33] + _chunk(b"zTXt", b"a\0\7") + content[33:])
    np.testing.assert_array_equal(image_file.read(tmp_path / "odd.png"), np.rot90(_corner(), -1))


def test_no_other_format_is_opened_and_no_program_started(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "photo.jpg"
    for format_name in ("EPS", "ICO", "PCX", "SGI", "DDS", "IM", "PDF"):
        Image.fromarray(_corner()).save(path, format_name)
        with pytest.raises(image_file.ImageError, match="photo.jpg: not a readable image: expected one of JPEG, PNG"):
            image_file.read(path)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.jp2", "a.j2k", "a.avif", "a.pbm", "a.pnm", "a.mpo", "a.heic"])
def test_every_documented_suffix_is_read(tmp_path, name):
    if name.endswith(".heic"):
        pytest.importorskip("pillow_heif").register_heif_opener()
    mode = "1" if name.endswith(".pbm") else "RGB"
    Image.fromarray(_corner()).convert(mode).save(tmp_path / name)
    assert np.abs(image_file.read(tmp_path / name).astype(int) - _corner()).mean() < 3
    assert image_file.find(str(tmp_path)) == [str(tmp_path / name)]


def test_heic_names_the_package_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99))
    with pytest.raises(image_file.ImageError, match="a.heic: HEIC needs one more package: pip install pillow-heif"):
        image_file.read(tmp_path / "a.heic")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp", "jp2", "avif", "pbm"])
def test_too_many_pixels_are_refused_before_memory_is_taken(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"bomb.{suffix}"
    Image.new("1", (600, 500)).convert("1" if suffix in ("png", "tif", "pbm") else "RGB").save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own limit does not stand in the way of ours
    loaded = []
    monkeypatch.setattr(
        Image.core, "new", lambda mode, size, new=Image.core.new: loaded.append(size) or new(mode, size)
    )
    with pytest.raises(image_file.ImageError, match=r"expected at most 299,999 pixels.*--max_pixels.*Received: "):
        image_file.read(path, max_pixels=299_999)
    assert not loaded
    assert image_file.read(path, max_pixels=300_000).shape == (500, 600, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_jpeg_of_endless_scans_is_refused(tmp_path, photos):
    file = io.BytesIO()
    Image.fromarray(_corner()).convert("L").save(file, "JPEG", progressive=True)
    content = file.getvalue()
    assert image_metadata.count_scans(content) == 6
    assert image_metadata.count_scans((photos / "tfjs_portrait.jpg").read_bytes()) == 10
    assert image_metadata.count_scans((photos / "solvay1927.jpg").read_bytes()) == 1
    path, scan = tmp_path / "a.jpg", _segment(0xDA, b"\1\1\0\1\x3f\0") + b"\0"
    for more, message in ((94, None), (95, "a.jpg: expected at most 100 scans in a JPEG. Received: 101")):
        path.write_bytes(content[:-2] + scan * more + content[-2:])
        if message is None:
            assert image_file.read(path).shape == (16, 32, 3)
        else:
            with pytest.raises(image_file.ImageError, match=message):
                image_file.read(path)


def test_warnings_are_quiet_in_threads_and_as_loud_as_before_afterwards(tmp_path):
    path = tmp_path / "odd.jpg"
    path.write_bytes(_odd("JPEG many pictures"))
    logger = logging.getLogger("PIL")
    before, level = list(warnings.filters), logger.level
    with futures.ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(image_file.read, [path] * 64))) == 64
    assert warnings.filters == before and logger.level == level


def test_what_decoders_log_is_not_heard(tmp_path, caplog):
    file = io.BytesIO()
    Image.fromarray(_corner()).save(file, "TIFF")
    content = file.getvalue().replace(struct.pack("<HHII", 277, 3, 1, 3), struct.pack("<HHII", 277, 3, 1, 92))
    (tmp_path / "odd.tif").write_bytes(content)
    with pytest.raises(image_file.ImageError, match="odd.tif: not a readable image"):
        image_file.read(tmp_path / "odd.tif")
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no image at all", "not a readable image: expected one of JPEG"),
        (None, "no such file"),
    ],
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


def test_write_leaves_one_whole_file(tmp_path):
    image = np.repeat(_grey_ramp()[..., None], 3, -1)
    image_file.write(tmp_path / "out.png", image)
    np.testing.assert_array_equal(image_file.read(tmp_path / "out.png"), image)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("a.jpg", (66_000, 1), "expected at most 65,500 pixels a side in JPEG. Received: 66000 x 1"),
        ("a.webp", (1, 17_000), "expected at most 16,383 pixels a side in WEBP. Received: 1 x 17000"),
        ("a.eps", (1, 1), "expected a name that ends in one of .jpg"),
        ("missing/a.jpg", (1, 1), "No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, name, size, message):
    with pytest.raises(image_file.ImageError, match=f"{tmp_path / name}: cannot be written: {message}"):
        image_file.write(tmp_path / name, np.zeros((*size[::-1], 3), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"as before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # a file ends there as on a disk that is full
    try:
        with pytest.raises(image_file.ImageError, match=f"a.{suffix}: cannot be written: File too large"):
            image_file.write(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_bytes() == b"as before"
