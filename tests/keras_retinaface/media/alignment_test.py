import numpy as np
import pytest

from keras_retinaface.media import alignment


def _moved(angle, scale, shift):
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (alignment.TEMPLATE @ rotation.T + shift).astype(np.float32)


def test_similarity_takes_a_moved_template_back():
    landmarks = _moved(0.4, 3.0, (100, -20))
    matrix = alignment.similarity(landmarks)
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], alignment.TEMPLATE, atol=1e-3)


def test_crop_shows_the_dots_where_the_template_has_them():
    landmarks = _moved(0.0, 2.0, (30, 40))
    image = np.zeros((300, 300, 3), np.uint8)
    for x, y in landmarks.round().astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    crop = alignment.crop(image, landmarks)
    assert crop.shape == (112, 112, 3)
    for x, y in alignment.TEMPLATE.round().astype(int):
        assert crop[y, x].min() > 120
    assert (crop > 120).mean() < 0.01


def test_a_face_at_the_border_is_padded_with_black():
    crop = alignment.crop(np.full((40, 40, 3), 255, np.uint8), _moved(0.0, 1.0, (-60, -60)))
    assert crop.shape == (112, 112, 3) and crop.min() == 0


def test_coinciding_landmarks_are_refused():
    with pytest.raises(ValueError, match="`landmarks` must not coincide"):
        alignment.similarity(np.ones((5, 2), np.float32))
