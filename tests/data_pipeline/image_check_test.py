import numpy as np
import PIL.Image
import pytest

from data_pipeline import image_check, record

FAULTS = {
    "missing.jpg": "no such file",
    "cut.jpg": "truncated",
    "text.jpg": "cannot identify image file",
    "empty.jpg": "0 bytes",
    "cut.png": "",
    "tiff.tif": "a TIFF file; JPEG, PNG, GIF, BMP can be read",
}


@pytest.fixture
def images(tmp_path):
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    for name in ("good.jpg", "good.png", "tail.jpg", "tiff.tif"):
        picture.save(tmp_path / name)
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "tail.jpg").write_bytes(whole + b"what a phone adds")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    (tmp_path / "text.jpg").write_text("404 not found")
    (tmp_path / "empty.jpg").write_bytes(b"")
    return tmp_path


def test_faulty_images_are_named_and_skipped(images):
    names = ["good.jpg", *FAULTS, "good.png", "tail.jpg"]
    records = [record.make(name, [], f"label.txt:{line}") for line, name in enumerate(names)]
    bad_data = record.BadData("skip")
    kept = image_check.check(str(images), records, bad_data)
    assert [r.image for r in kept] == ["good.jpg", "good.png", "tail.jpg"]
    assert bad_data.num_skipped == len(FAULTS)
    for line, (fault, (name, words)) in enumerate(zip(bad_data.faults, FAULTS.items())):
        assert fault.startswith(f"label.txt:{line + 1}: ") and name in fault and words in fault
    with pytest.raises(ValueError, match=r"label.txt:1: .*missing.jpg: expected a whole image"):
        image_check.check(str(images), records, record.BadData())


def test_boxes_outside_their_image_are_ignored_and_counted(images, caplog):
    boxes = [(0, 0, 9, 9), (80, 5, 90, 9), (70, 50, 99, 99), (5, -9, 9, 0), (3, 3, 3, 8)]
    kept = image_check.check(
        str(images), [record.make("good.jpg", [record.Face(box) for box in boxes])], record.BadData()
    )
    np.testing.assert_array_equal(kept[0].is_ignored, [False, True, False, True, True])
    assert "ignoring 2 faces outside their image and 1 without area" in caplog.text


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(ValueError, match="`images` must be a folder. Received: images=None"):
        image_check.check(None, [], record.BadData())
