import numpy as np
import pytest
from absl import logging

from data_pipeline import plausibility
from data_pipeline import record as record_lib

_SIZE = np.array([200, 100])


def _check(*boxes, **more):
    faces = [record_lib.Face((x, y, x + width, y + height), **more) for x, y, width, height in boxes]
    plausibility.check([record_lib.make("a.jpg", faces, "label.txt:1")], [_SIZE])


def _warnings(monkeypatch, *boxes):
    said = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: said.append(message % values))
    _check(*boxes)
    return said


def test_no_face():
    with pytest.raises(ValueError, match="^label.txt: expected at least one face .* Received: 1 images$"):
        _check()
    with pytest.raises(ValueError, match="Received: 1 images with 2 boxes, all ignored$"):
        _check((1, 2, 3, 4), (5, 6, 7, 8), is_ignored=True)


def test_shares():
    with pytest.raises(ValueError, match="^label.txt: expected boxes in pixels; these look like shares .* 0.73$"):
        _check((0.264, 0.2, 0.432, 0.53), (0.1, 0.1, 0.2, 0.2))


def test_corners(monkeypatch):
    # x1 y1 x2 y2 of faces in the lower right: as width and height they reach past the image.
    corners = [(100 + i, 40, 150 + i, 90) for i in range(10)]
    with pytest.raises(ValueError, match="expected x y width height; these look like x1 y1 x2 y2. Received: 10 of 10"):
        _check(*corners)
    # Of one box it may be meant.
    (said,) = _warnings(monkeypatch, corners[0])
    assert said.startswith("label.txt: expected x y width height")
    assert said.endswith("1 of 1 boxes leave their image; they look like corners, x1 y1 x2 y2")


def test_what_may_be_meant(monkeypatch):
    assert not _warnings(monkeypatch, (0, 0, 210, 105), (150, 50, 40, 40))
    (said,) = _warnings(monkeypatch, (150, 50, 300, 300), (180, 50, 90, 30), (1, 1, 9, 9))
    assert said.endswith("2 of 3 boxes leave their image")
