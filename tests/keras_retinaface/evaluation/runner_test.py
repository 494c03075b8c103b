import json

import numpy as np
import pytest

from keras_retinaface.evaluation import prediction, runner
from keras_retinaface.inference import detector as detector_lib

PATHS = ["astronaut.png", "mediapipe_sergey.png"]
SETTINGS = {"model": "mobilenet025", "scales": []}


@pytest.fixture(scope="module")
def detector():
    return detector_lib.Detector("mobilenet025", score_threshold=0.3)


def test_rows_are_the_detectors_faces(detector, photos):
    predictions, seconds = runner.detect(detector, photos, PATHS)
    assert list(predictions) == ["astronaut", "mediapipe_sergey"] and seconds > 0
    boxes, scores, landmarks, _ = predictions["astronaut"]
    assert len(boxes) == 1 and boxes.dtype == landmarks.dtype == np.float64
    # The astronaut's eyes, nose and mouth, read off the photo.
    expected = [[203, 100], [247, 103], [226, 122], [207, 143], [240, 144]]
    assert np.abs(landmarks[0] - expected).max() < 9
    x1, y1, x2, y2 = boxes[0]
    assert x1 < 203 and y1 < 100 and x2 > 247 and y2 > 144 and scores[0] > 0.9


def test_a_stopped_run_goes_on_and_ends_with_the_same_numbers(detector, photos, tmp_path):
    whole, _ = runner.detect(detector, photos, PATHS)
    runner.detect(detector, photos, PATHS[:1], output=tmp_path / "out", settings=SETTINGS)
    # What is stored is not detected again: a changed file comes back as it is.
    moved = whole["astronaut"]._replace(boxes=whole["astronaut"].boxes + 1)
    prediction.write(tmp_path / "out", "astronaut", moved)
    resumed, seconds = runner.detect(detector, photos, PATHS, output=tmp_path / "out", settings=SETTINGS)
    for wanted, name in ((moved, "astronaut"), (whole["mediapipe_sergey"], "mediapipe_sergey")):
        for ours, theirs in zip(resumed[name][:3], wanted[:3]):
            np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(seconds)  # only one image was left, and the first builds the graph


def test_pictures_are_as_large_as_is_said(photos):
    with pytest.raises(ValueError, match="astronaut.png: expected at most 100 pixels .*--max_pixels.* 512 x 512"):
        runner.detect(None, photos, PATHS, max_pixels=100)


def test_predictions_of_other_settings_are_refused(detector, photos, tmp_path):
    runner.detect(detector, photos, [], output=tmp_path / "out", settings=SETTINGS)
    with pytest.raises(ValueError, match=r"other settings \(scales=\[\] then, \[500\] now\): remove it"):
        runner.detect(detector, photos, PATHS, output=tmp_path / "out", settings={**SETTINGS, "scales": [500]})
    assert json.loads((tmp_path / "out.settings.json").read_text()) == SETTINGS
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not empty and was not made by this command"):
        runner.detect(detector, photos, PATHS, output=tmp_path / "else", settings=SETTINGS)


def test_missing_images_are_an_error_unless_a_part_is_asked_for(photos):
    paths = [*PATHS, "nobody.jpg"]
    with pytest.raises(FileNotFoundError, match="lacks 1 of 3 images, as nobody.jpg. A part .*--partial"):
        runner.find_images(photos, paths, is_partial=False)
    assert runner.find_images(photos, paths, is_partial=True) == PATHS
    with pytest.raises(FileNotFoundError, match="lacks 1 of 1 images, as nobody.jpg"):
        runner.find_images(photos, paths[2:], is_partial=True)


def test_unreadable_image_is_named(detector, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="broken.jpg: not a readable image"):
        runner.detect(detector, tmp_path, ["broken.jpg"])


def test_fingerprint_follows_the_model_and_not_its_name(tmp_path):
    assert runner.fingerprint("mobilenet025") == "mobilenet025"
    first, second = tmp_path / "a.tflite", tmp_path / "b.tflite"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    assert runner.fingerprint(str(first)) == runner.fingerprint(str(second))
    second.write_bytes(b"other weights")
    assert runner.fingerprint(str(first)) != runner.fingerprint(str(second))
    # A workdir is its model; a log line more changes nothing.
    (tmp_path / "model.keras").write_bytes(b"weights")
    before = runner.fingerprint(str(tmp_path))
    (tmp_path / "history.csv").write_text("epoch")
    assert runner.fingerprint(str(tmp_path)) == before


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_damaged_settings_are_named(tmp_path, content):
    (tmp_path / "out.settings.json").write_bytes(content)
    with pytest.raises(ValueError, match="out.settings.json: (not readable JSON|expected an object)"):
        runner.detect(None, tmp_path, [], output=tmp_path / "out", settings=SETTINGS)
