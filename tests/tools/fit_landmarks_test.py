import numpy as np
import pytest

from data_pipeline import record as record_lib
from keras_retinaface import config as config_lib
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays
from tools import fit_landmarks

_PHOTO = "solvay1927.jpg"


def test_the_line_of_most_faces_is_found_though_some_are_far_off():
    generator = np.random.default_rng(0)
    inputs = np.concatenate([generator.normal(size=(2000, 8)), np.ones((2000, 1))], axis=1)
    line = generator.normal(size=(9, 5, 2))
    targets = np.tensordot(inputs, line, 1)
    targets[::7] += 30.0
    fitted = fit_landmarks.fit(inputs, targets, generator.uniform(0.01, 0.05, 2000), np.zeros((9, 5, 2)))
    np.testing.assert_allclose(fitted, line, atol=0.02)


def test_inputs_that_say_nothing_keep_their_weights():
    inputs = np.random.default_rng(0).normal(size=(500, 3))
    inputs[:, 1] = 0.0
    start = np.full((3, 5, 2), 7.0)
    fitted = fit_landmarks.fit(inputs, np.zeros((500, 5, 2)), np.ones(500), start)
    np.testing.assert_allclose(fitted[1], 7.0)
    np.testing.assert_allclose(fitted[[0, 2]], 0.0, atol=0.01)


def test_a_head_that_knew_nothing_learns_the_points_of_a_photo(photos, caplog):
    model = model_lib.RetinaFace.from_preset("mobilenet025")
    faces = detector.Detector(model, score_threshold=0.95).detect(image_file.read(photos / _PHOTO))
    assert len(faces) == 29
    seen = [record_lib.Face(tuple(face.box), tuple(map(tuple, face.landmarks)), (True,) * 5) for face in faces]
    # One without points is left out.
    records = [record_lib.make(_PHOTO, [*seen, record_lib.Face((0.0, 0.0, 20.0, 20.0))])]
    before = arrays.read(model)
    lost = {name: 0 * value if name.startswith("landmark_") else value for name, value in before.items()}
    arrays.assign(model, lost, "lost")
    # Faces of this photo are of the second and third anchor size.
    gathered = fit_landmarks.look(model, records, str(photos), [1.0])
    counts = [len(inputs) for inputs, _, _ in gathered]
    assert len(counts) == 6 and 58 < sum(counts) <= 6 * 29
    with pytest.raises(ValueError, match="expected 1300 anchors on faces"):
        fit_landmarks.refit(lost, model.config.anchors.levels, gathered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_landmarks, "_ROWS_PER_INPUT", 0.3)
        fitted = fit_landmarks.refit(lost, model.config.anchors.levels, gathered)
    assert "too few" in caplog.text
    for name, value in fitted.items():
        if not name.startswith("landmark_"):
            np.testing.assert_array_equal(value, before[name])
    arrays.assign(model, fitted, "fitted")
    for face, other in zip(
        detector.Detector(model, score_threshold=0.95).detect(image_file.read(photos / _PHOTO)), faces
    ):
        np.testing.assert_array_equal(face.box, other.box)
        np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.06 * max(face.box[2:] - face.box[:2]))


def test_a_network_with_one_head_and_faces_without_points_are_refused(photos):
    shared = model_lib.RetinaFace(config_lib.Config().replace(pyramid_channels=8, use_shared_heads=True))
    with pytest.raises(ValueError, match="Received: one head for all levels"):
        fit_landmarks.look(shared, [], str(photos), [1.0])
    records = [record_lib.make(_PHOTO, [record_lib.Face((0.0, 0.0, 20.0, 20.0))])]
    with pytest.raises(ValueError, match="expected faces with five landmarks"):
        fit_landmarks.look(model_lib.RetinaFace.from_preset("mobilenet025"), records, str(photos), [1.0])
