import os

import pytest
from PIL import Image

from keras_retinaface.media import image_file
from tests import pictures


def test_find_takes_folders_globs_and_names(tmp_path):
    for name in ("b.png", "sub/a.JPG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    in_folder = [p[len(str(tmp_path)) + 1 :] for p in image_file.find(str(tmp_path))]
    assert in_folder == ["b.png", "sub/a.JPG"]
    assert image_file.find(f"{tmp_path}/**/*.JPG") == [str(tmp_path / "sub" / "a.JPG")]
    assert image_file.find(f"{tmp_path}/missing.png") == [f"{tmp_path}/missing.png"]


def test_an_existing_name_comes_before_a_glob(tmp_path):
    for name in (
        "album[2020]/a.png",
        "album[2020]/b?.png",
        "album2/c.png",
        "photo[1].png",
        "photo1.png",
        "x/[y]/d.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()

    def find(pattern):
        return [path[len(str(tmp_path)) + 1 :] for path in image_file.find(f"{tmp_path}/{pattern}")]

    assert find("photo[1].png") == ["photo[1].png"]
    assert find("album[2020]") == find("album[2020]/*.png") == ["album[2020]/a.png", "album[2020]/b?.png"]
    assert find("album[2020]/b?.png") == ["album[2020]/b?.png"]
    assert find("*/[y]/*.png") == find("**/[y]/*") == ["x/[y]/d.png"]
    assert find("album[0-9]/*.png") == ["album2/c.png"]
    assert find("**/*.png") == find("**") == find("")
    assert find("none[0-9].png") == []


def test_a_name_keeps_its_spelling(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert image_file.find("./*.png") == ["./a.png"] and image_file.find("*.png") == image_file.find("**") == ["a.png"]


def test_a_folder_names_and_counts_the_pictures_that_it_passes_over(tmp_path, caplog):
    for name in ("no suffix", "other.bin", "unknown.jpg_large"):
        Image.fromarray(pictures.noise()).save(tmp_path / name, "PNG")
    for name in ("a.CR2", "b.psd", "c.svg", "d.jxl", "notes.txt", "weights.npz", "._a.jpg"):
        (tmp_path / name).write_bytes(b"PK")
    taken = [str(tmp_path / name) for name in ("no suffix", "other.bin", "unknown.jpg_large")]
    assert image_file.find(str(tmp_path)) == taken
    (record,) = caplog.records
    named = ", ".join(str(tmp_path / name) for name in ("a.CR2", "b.psd", "c.svg"))
    assert f"{tmp_path}: passing over pictures for their format, 4 in all: {named}, ..." in record.getMessage()


def test_heic_without_its_package_is_passed_over_aloud(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.heic").touch()
    assert image_file.find(str(tmp_path)) == []
    assert "a.heic (HEIC needs one more package: pip install pillow-heif)" in caplog.text


def test_links_to_nothing_are_found_so_that_they_are_told(tmp_path):
    for name, target in {"dangling.png": "absent.png", "loop.png": "loop.png", "notes.txt": "absent.txt"}.items():
        (tmp_path / name).symlink_to(target)
    os.mkfifo(tmp_path / "pipe.png")
    found = image_file.find(str(tmp_path))
    assert found == [str(tmp_path / "dangling.png"), str(tmp_path / "loop.png")] and image_file.find("") == []
    for path in found:
        with pytest.raises(image_file.ImageError, match="no such file"):
            image_file.read(path)
