import cv2
import numpy as np
import pytest

from keras_retinaface.inference import face as face_lib
from keras_retinaface.media import drawing

_GREEN = np.array((40, 220, 90))


def _face(x1, y1, side, score=0.9):
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * (side, side * 1.2) + (x1, y1)
    return face_lib.Face(np.array([x1, y1, x1 + side, y1 + side * 1.2]), score, points.astype(np.float32))


def test_box_and_points_are_where_they_belong():
    image = np.zeros((100, 120, 3), np.uint8)
    points = np.array([[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]], np.float32)
    drawn = drawing.faces(image, [face_lib.Face(np.array([30.0, 30.0, 70.0, 75.0]), 0.9, points)])
    assert not image.any()
    np.testing.assert_array_equal(drawn[75, 50], drawn[50, 30])  # bottom and left edge in the box's colour
    assert drawn[75, 50].any() and not drawn[90, 100].any()
    colours = {tuple(drawn[int(y), int(x)]) for x, y in points}
    assert len(colours) == 5 and (0, 0, 0) not in colours


@pytest.mark.parametrize(("size", "side"), [((1200, 1800), 60), ((1200, 1800), 900), ((240, 320), 24)])
@pytest.mark.parametrize("shade", [0, 255])
def test_scores_are_legible_and_points_visible_on_faces_of_every_size(size, side, shade):
    image = np.full((*size, 3), shade, np.uint8)
    face = _face(size[1] // 3, 150 if size[0] > 500 else 60, side)
    drawn = drawing.faces(image, [face])
    height = drawing.text_height(side, max(size))
    x1, y1 = (int(v) for v in face.box[:2])
    label = drawn[y1 - 2 * height : y1 - 1, x1 : x1 + 4 * height]
    ground = np.abs(label - _GREEN).max(-1) < 8
    letters = label.astype(int).sum(-1) < 120
    rows = np.flatnonzero(ground[:, 1])
    assert height >= 11 and len(rows) >= height  # a ground of its own, as high as the letters
    inside = letters & (np.cumsum(ground, 1) > 0) & (np.cumsum(ground[:, ::-1], 1)[:, ::-1] > 0)
    # Filled letters: the strokes of the figures are whole, so that many dark pixels have dark neighbours all around.
    solid = cv2.erode(inside.astype(np.uint8), np.ones((2, 1), np.uint8))
    assert solid.sum() > 0.4 * inside.sum() > 0.02 * height**2
    for x, y in face.landmarks:
        around = drawn[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].reshape(-1, 3).astype(int)
        assert np.ptp(around, axis=1).max() > 100  # a colour, on black and on white


def test_scores_stay_inside_the_picture():
    image = np.zeros((40, 60, 3), np.uint8)
    for face in (_face(-10, -10, 30), _face(50, 35, 30), _face(0, 0, 60)):
        assert (np.abs(drawing.faces(image, [face]) - _GREEN).max(-1) < 8).sum() > 100
    assert drawing.faces(np.zeros((4, 4, 3), np.uint8), [_face(0, 0, 4)]).shape == (4, 4, 3)
