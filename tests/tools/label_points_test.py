import json
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from keras_retinaface.inference import detector, face
from keras_retinaface.media import image_file
from tools import label_points

_PHOTO = "solvay1927.jpg"


@pytest.fixture(scope="module")
def public():
    return detector.Detector("mobilenet025_public", score_threshold=0.05, use_flip=True, use_voting=True)


def test_points_come_back_in_pixels_of_the_photo_and_know_a_shrunk_face_better(public, photos):
    image = image_file.read(photos / "fr_obama.jpg")
    (seen,) = detector.Detector("mobilenet025").detect(image)
    side = max(seen.box[2:] - seen.box[:2])
    points = label_points.points_of(public.detect, image, seen.box, [352, 448], 0.1)
    np.testing.assert_allclose(points, seen.landmarks, atol=0.06 * side)
    # The box may be a little off.
    moved = label_points.points_of(public.detect, image, seen.box + [0.1 * side, 0, 0.1 * side, 0], [352, 448], 0.1)
    np.testing.assert_allclose(moved, points, atol=0.03 * side)


def test_what_is_no_face_or_hangs_on_the_size_gets_no_points(public, photos):
    image = image_file.read(photos / "fr_obama.jpg")
    (seen,) = detector.Detector("mobilenet025").detect(image)
    assert label_points.points_of(public.detect, np.full_like(image, 90), seen.box, [352], 0.1) is None
    beside = seen.box + 1.5 * np.tile(seen.box[2:] - seen.box[:2], 2)
    assert label_points.look(public.detect, image, beside, 352) is None
    gap = label_points.look(public.detect, image, seen.box, 352) - label_points.look(public.detect, image, seen.box, 96)
    gap = np.linalg.norm(gap, axis=1).mean() / np.sqrt(np.prod(seen.box[2:] - seen.box[:2]))
    for limit in (0.9 * gap, 1.1 * gap):
        points = label_points.points_of(public.detect, image, seen.box, [352, 96], limit)
        assert (points is None) == (limit < gap)


def test_of_two_faces_in_a_cut_the_one_in_the_middle_counts():
    def detect(image):
        middle, beside = np.array([50, 50, 150, 150.0]), np.array([120, 50, 200, 150.0])
        return [face.Face(box, score, np.full((5, 2), box[0])) for box, score in ((beside, 0.99), (middle, 0.7))]

    points = label_points.look(detect, np.zeros((400, 400, 3), np.uint8), np.array([100.0, 100, 200, 200]), 200)
    np.testing.assert_allclose(points, 100.0)


def test_the_command_writes_all_faces_and_points_of_those_that_are_large_enough(photos, tmp_path, caplog):
    flags.FLAGS.mark_as_parsed()
    found = detector.Detector("mobilenet025", score_threshold=0.9).detect(str(photos / _PHOTO))[:5]
    boxes = [[*map(float, f.box[:2]), *map(float, f.box[2:] - f.box[:2])] for f in found]
    boxes[1][2:] = [12.0, 12.0]
    text = "".join(f"{x:.1f} {y:.1f} {w:.1f} {h:.1f} 0 0 0 {int(n == 0)} 0 0\n" for n, (x, y, w, h) in enumerate(boxes))
    shutil.copy(photos / _PHOTO, tmp_path)
    (tmp_path / "broken.jpg").write_bytes((photos / _PHOTO).read_bytes()[:-20000])
    (tmp_path / "faces.txt").write_text(f"{_PHOTO}\n5\n{text}broken.jpg\n1\n1 1 50 50 0 0 0 0 0 0\n")
    output = tmp_path / "points.json"
    files = {"images": str(tmp_path), "annotations": str(tmp_path / "faces.txt"), "output": str(output)}
    with flagsaver.flagsaver(**files):
        assert label_points.main(["label_points"]) == 1
    assert "skipped 1 of 2 images" in caplog.text and "broken.jpg" in caplog.text
    made = json.loads(output.read_text())
    has = ["keypoints" in row for row in made["annotations"]]
    assert has == [False, False, True, True, True] and len(made["images"]) == 1
    with flagsaver.flagsaver(**{**files, "output": files["annotations"]}):
        assert label_points.main(["label_points"]) == 1
    assert pathlib.Path(files["annotations"]).read_text().startswith(_PHOTO)
