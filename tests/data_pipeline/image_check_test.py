import zlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from data_pipeline import image_check
from data_pipeline import record as record_lib
from tests import pictures


def test_a_camera_jpeg_with_two_pictures_is_read(tmp_path):
    image = PIL.Image.new("RGB", (16, 12), (200, 10, 10))
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image])
    size, fault = image_check.inspect(str(tmp_path / "a.jpg"))
    assert fault == "" and tuple(size) == (16, 12)
    assert tf.io.decode_jpeg((tmp_path / "a.jpg").read_bytes()).shape == (12, 16, 3)


def test_an_image_past_the_limit_is_a_fault(tmp_path):
    content = bytearray(pictures.encode(pictures.noise()))
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    assert "400000000 pixels" in image_check.inspect(str(tmp_path / "a.png"))[1]


def test_check_keeps_whole_images_and_ignores_what_lies_outside(tmp_path, caplog):
    PIL.Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    PIL.Image.new("L", (50, 40)).save(tmp_path / "b.bmp")
    boxes = [(0, 0, 9, 9), (50, 0, 60, 9), (0, 40, 9, 50), (-9, 0, 0, 9), (4, 4, 4, 9)]
    faces = [record_lib.Face(box) for box in boxes]
    records = [record_lib.make(name, faces, f"l.txt:{line}") for line, name in enumerate(("a.png", "no.png", "b.bmp"))]
    bad_data = record_lib.BadData("skip")
    kept = image_check.check(str(tmp_path), records, bad_data)
    assert [record.image for record in kept] == ["a.png", "b.bmp"] and bad_data.num_skipped == 1
    assert bad_data.faults == [f"l.txt:1: {tmp_path / 'no.png'}: expected a whole image. Received: 'no such file'"]
    for record in kept:
        np.testing.assert_array_equal(record.is_ignored, [False, True, True, True, True])
    assert "ignoring 6 faces outside their image and 2 without area" in caplog.text
    with pytest.raises(ValueError, match="`images` must be a folder"):
        image_check.check(str(tmp_path / "a.png"), records, bad_data)
