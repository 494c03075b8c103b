import numpy as np

from keras_retinaface.inference import detector
from keras_retinaface.media import drawing


def test_box_and_points_are_where_they_belong():
    image = np.zeros((100, 120, 3), np.uint8)
    points = np.array([[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]], np.float32)
    drawn = drawing.faces(image, [detector.Face(np.array([30.0, 30.0, 70.0, 75.0]), 0.9, points)])
    assert not image.any()
    np.testing.assert_array_equal(drawn[75, 50], drawn[50, 30])  # bottom and left edge in the box's colour
    assert drawn[75, 50].any() and not drawn[90, 100].any()
    colours = {tuple(drawn[int(y), int(x)]) for x, y in points}
    assert len(colours) == 5 and (0, 0, 0) not in colours
