import os

import pytest

from keras_retinaface import output


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "mine.jpg"
    path.parent.mkdir()
    path.write_bytes(b"photo")
    return path


def _spellings(photo, folder):
    """Yields paths that are the photo, and one more folder where it has another name."""
    yield photo
    yield os.path.relpath(photo)
    (folder / "sub").mkdir()
    yield folder / "sub" / ".." / "photos" / "mine.jpg"
    (folder / "folder_link").symlink_to(photo.parent)
    yield folder / "folder_link" / "mine.jpg"
    (folder / "sub" / "soft.json").symlink_to(photo)
    yield folder / "sub" / "soft.json"
    os.link(photo, folder / "sub" / "hard.json")
    yield folder / "sub" / "hard.json"


def test_an_original_is_told_by_what_it_is_on_the_disk(tmp_path, photo):
    originals = output.Originals([photo, tmp_path / "not_there.jpg"])
    for path in _spellings(photo, tmp_path):
        with pytest.raises(ValueError) as error:
            originals.check(path, "json")
        assert str(error.value) == f"--json would overwrite what is read: {path} is {photo}"
    for path in (
        tmp_path / "mine.jpg",
        tmp_path / "photos" / "other.jpg",
        tmp_path / "not_there.jpg",
        "a\0b",
        tmp_path,
    ):
        originals.check(path, "json")


def test_an_original_named_through_a_link_or_a_folder(tmp_path, photo):
    (tmp_path / "link.jpg").symlink_to(photo)
    for named in (tmp_path / "link.jpg", tmp_path / "photos", tmp_path):
        with pytest.raises(ValueError, match="--json would overwrite"):
            output.Originals([named]).check(photo, "json")


def test_names_that_are_not_known_before(tmp_path, photo):
    (tmp_path / "crops").mkdir()
    originals = output.Originals([photo])
    originals.check_names(tmp_path / "crops", "crops", lambda name: name)
    originals.check_names(tmp_path / "nowhere", "crops", lambda name: name)
    os.link(photo, tmp_path / "crops" / "mine_3.jpg")
    originals.check_names(tmp_path / "crops", "crops", lambda name: None)
    with pytest.raises(ValueError, match="--crops would overwrite what is read: .*mine_3.jpg is .*mine.jpg"):
        originals.check_names(tmp_path / "crops", "crops", lambda name: name)
    originals.check_names(tmp_path, "crops", lambda name: name)
    with pytest.raises(ValueError, match="--output would overwrite what is read: .*mine_3.jpg is .*mine.jpg"):
        originals.check_tree(tmp_path, "output")


def test_places_that_cannot_be_written_are_named(tmp_path, photo):
    assert output.make_folder(tmp_path / "a" / "b", "output").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())
    with pytest.raises(ValueError, match="--output=.*mine.jpg/x cannot be written: Not a directory"):
        output.make_folder(photo / "x", "output")
    output.check_file(tmp_path / "faces.json", "json")
    output.check_file("/dev/null", "json")
    output.check_file(photo, "json")
    assert photo.read_bytes() == b"photo" and not (tmp_path / "faces.json").exists()
    with pytest.raises(ValueError, match="--json=.*nowhere/faces.json cannot be written: No such file or directory"):
        output.check_file(tmp_path / "nowhere" / "faces.json", "json")
    with pytest.raises(ValueError, match="--json=.* cannot be written: it is a folder"):
        output.check_file(tmp_path, "json")


def test_a_pipe_by_its_name_in_dev_can_be_written():
    reading, writing = os.pipe()
    try:
        output.check_file(f"/dev/fd/{writing}", "json")
        with pytest.raises(ValueError, match="--json=/.*/fd/987654 cannot be written"):
            output.check_file("/dev/fd/987654", "json")
    finally:
        os.close(reading)
        os.close(writing)
