import json
import sys

import numpy as np
import pytest

from keras_retinaface.inference import face as face_lib
from keras_retinaface.media import alignment


def _face(box=(10.0, 20.0, 40.0, 60.0), score=0.75):
    points = np.array([[18, 34], [32, 34], [25, 42], [19, 50], [31, 50]], np.float32)
    return face_lib.Face(np.array(box, np.float32), score, points)


def _image():
    image = np.zeros((80, 60, 3), np.uint8)
    image[20:60, 10:40] = (200, 100, 50)
    return image


def test_an_aligned_crop_is_arcfaces_and_grows_with_size_and_margin():
    image = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    face = _face()
    np.testing.assert_array_equal(face.crop(image), alignment.crop(image, face.landmarks))
    # With a margin of a quarter the crop without it is the middle half of the side and a half more.
    wide, plain = (face.crop(image, size=size, margin=margin) for size, margin in ((168, 0.25), (112, 0.0)))
    # OpenCV counts in parts of a pixel, of which noise shows every one.
    assert np.abs(wide[28:140, 28:140].astype(int) - plain).max() < 10
    assert face.crop(image, size=224).shape == (224, 224, 3)


def test_a_plain_crop_is_the_box_unstretched_and_black_outside():
    image, face = _image(), _face()
    np.testing.assert_array_equal(face.crop(image, size=None, aligned=False), image[20:60, 10:40])
    square = face.crop(image, size=80, aligned=False)  # 40 pixels a side, twice as large: 30 of them are the box
    assert square.shape == (80, 80, 3)
    np.testing.assert_array_equal(square[40, 12:68], np.full((56, 3), (200, 100, 50)))
    assert not square[40, :8].any() and not square[40, 72:].any()
    # The box and half of it on each side: 60 x 80, from -5, 0.
    grown = face.crop(image, size=None, margin=0.5, aligned=False)
    assert grown.shape == (80, 60, 3) and not grown[:, :5].any()
    np.testing.assert_array_equal(grown[20:60, 15:45], image[20:60, 10:40])
    beside = _face(box=(-50, -50, -20, -10)).crop(image, size=16, aligned=False)
    assert beside.shape == (16, 16, 3) and not beside.any()
    shrunk = face.crop(image, size=8, aligned=False)
    np.testing.assert_array_equal(shrunk[4, 2:6], np.full((4, 3), (200, 100, 50)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size` must be a whole number of pixels from 1 to .* Received: size=0"),
        ({"size": 1.5}, "Received: size=1.5"),
        ({"size": None}, "`size` must be a number of pixels where `aligned`"),
        ({"margin": -0.1}, r"`margin` must be in \[0, 10.0\]. Received: margin=-0.1"),
        ({"margin": float("nan"), "aligned": False}, "Received: margin=nan"),
    ],
)
def test_wrong_crops_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _face().crop(_image(), **options)


def test_a_dict_is_the_line_of_json():
    said = json.loads(json.dumps(_face().to_dict()))
    assert said == {
        "box": [10, 20, 40, 60],
        "score": 0.75,
        "landmarks": [[18, 34], [32, 34], [25, 42], [19, 50], [31, 50]],
    }


def test_tables():
    pandas = pytest.importorskip("pandas")
    faces = face_lib.Faces([_face(), _face(score=0.5)])
    table = faces.to_dataframe()
    assert list(table.columns) == list(face_lib.COLUMNS) and list(table.score) == [0.75, 0.5]
    assert table.loc[0, ["x1", "y2", "nose_x", "right_mouth_y"]].tolist() == [10, 60, 25, 50]
    several = face_lib.to_dataframe([faces, face_lib.Faces(), faces[:1]], images=["a.jpg", "b.jpg", "c.jpg"])
    assert list(several.image) == ["a.jpg", "a.jpg", "c.jpg"]
    empty = face_lib.Faces().to_dataframe()
    assert isinstance(empty, pandas.DataFrame) and list(empty.columns) == list(face_lib.COLUMNS) and not len(empty)
    with pytest.raises(ValueError, match="`images` must name as many as `found` has. Received: 1 for 2"):
        face_lib.to_dataframe([faces, faces], images=["a.jpg"])


@pytest.mark.parametrize(("call", "module"), [("to_dataframe", "pandas"), ("to_supervision", "supervision")])
def test_a_missing_package_is_named_with_its_command(monkeypatch, call, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"needs {module}, which is not installed: pip install {module}$"):
        getattr(face_lib.Faces([_face()]), call)()


@pytest.mark.parametrize("count", [0, 2])
def test_supervision_takes_the_faces(count):
    supervision = pytest.importorskip("supervision", reason="pip install supervision")
    found = face_lib.Faces([_face()] * count).to_supervision()
    assert isinstance(found, supervision.Detections) and len(found) == count
    assert found.xyxy.shape == (count, 4) and found.data["landmarks"].shape == (count, 5, 2)
    assert list(found.data["class_name"]) == ["face"] * count and list(found.class_id) == [0] * count
    assert len(found[found.confidence > 0.9]) == 0  # filters everything beside it alike
    if count:
        drawn = supervision.BoxAnnotator().annotate(_image(), found)
        assert (drawn != _image()).any()
