import numpy as np
import pytest

from data_pipeline import wider_face as annotation
from keras_retinaface.evaluation import wider_face
from tools import split_annotations

_SIZES = (8, 10, 11, 30, 31, 50, 51)  # heights around the subsets' limits


def _text(number, is_label):
    """An image's lines in either format: none, or seven faces and one that is ignored."""
    path = f"{number % 3}--Event/{number}.jpg"
    boxes = [f"{5 * i}.5 {number} 20 {height}" for i, height in enumerate(_SIZES)] if number % 5 else []
    if is_label:
        return "".join([f"# {path}\n", *(f"{box}\n" for box in boxes), "9 9 0 60\n" if boxes else ""])
    rows = (
        [f"{box} 0 0 0 0 0 0\n" for box in boxes] + ["9 9 40 60 0 0 0 1 0 0\n"] if boxes else ["0 0 0 0 0 0 0 0 0 0\n"]
    )
    return f"{path}\n{len(boxes) + 1 if boxes else 0}\n" + "".join(rows)


@pytest.mark.parametrize("is_label", [True, False])
def test_every_image_is_in_one_part_with_its_own_lines(tmp_path, is_label):
    images = {number: _text(number, is_label) for number in range(400)}
    (tmp_path / "all.txt").write_text("\n".join(images.values()))  # with empty lines between
    split_annotations.write(str(tmp_path / "all.txt"), tmp_path / "deep" / "split", 0.2)
    texts = [(tmp_path / "deep" / "split" / name).read_text() for name in ("train.txt", "held_out.txt")]
    parts = [annotation.read(str(tmp_path / "deep" / "split" / name)) for name in ("train.txt", "held_out.txt")]
    numbers = [[int(record.image.split("/")[1][:-4]) for record in part] for part in parts]
    assert sorted(numbers[0] + numbers[1]) == list(range(400)) and 60 < len(numbers[1]) < 100
    for text, part in zip(texts, numbers):
        assert text.replace("\n\n", "\n").rstrip("\n") == "".join(images[number] for number in part).rstrip("\n")
    # Evaluation reads the same faces back, and counts those over 50, 30 and 10 pixels.
    truth = wider_face.load_ground_truth(tmp_path / "deep" / "split" / "ground_truth")
    of_images = {f"{record.image[:-4]}": record for record in parts[1]}
    assert sorted(truth.names) == sorted(of_images)
    for name, start, end in zip(truth.names, truth.offsets, truth.offsets[1:]):
        has_faces = len(of_images[name].boxes) > 0
        np.testing.assert_allclose(
            truth.boxes[start:end], of_images[name].boxes if has_faces else np.zeros((1, 4)), atol=1e-4
        )
        for subset, count in (("easy", 1), ("medium", 3), ("hard", 5)):
            assert truth.keep[subset][start:end].sum() == count * has_faces


def test_the_name_alone_decides_and_a_larger_share_holds_a_smaller():
    names = [f"0--Parade/{number}.jpg" for number in range(2000)]
    few, many = ({name for name in names if split_annotations.is_held_out(name, share)} for share in (0.1, 0.3))
    assert few < many and 160 < len(few) < 240 and 540 < len(many) < 660
    assert split_annotations.is_held_out("0--Parade/7.png", 0.1) == ("0--Parade/7.jpg" in few)


@pytest.mark.parametrize(
    ("text", "share", "message"),
    [
        ("# a/b.jpg\n1 2 3 4\n", 1.0, "--share must be between 0 and 1. Received: 1.0"),
        ("# a/b.jpg\n1 2 3 4\n", float("nan"), "--share must be between 0 and 1. Received: nan"),
        ("# a/b.jpg\n1 2 3\n", 0.1, "all.txt:2: expected 4 numbers, or 19 and more"),
        ("# a/b.jpg\n1 2 3 4\n", 0.1, " of 1 images would be set aside"),
        ("".join(f"# a/{i}.png\n1 2 3 4\n" for i in range(99)), 0.5, "official ground truth holds .jpg images"),
    ],
)
def test_faults_leave_nothing_behind(tmp_path, text, share, message):
    (tmp_path / "all.txt").write_text(text)
    with pytest.raises(ValueError, match=message.replace(".", "[.]")):
        split_annotations.write(str(tmp_path / "all.txt"), tmp_path / "split", share)
    assert [path.name for path in tmp_path.iterdir()] == ["all.txt"]
