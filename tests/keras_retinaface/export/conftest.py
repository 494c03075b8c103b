"""A model and photos that tests of exports share."""

import cv2
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.export import tflite
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib


@pytest.fixture(scope="session")
def model():
    return model_lib.RetinaFace.from_preset("mobilenet025_public")


@pytest.fixture(scope="session")
def tflite_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "retinaface.tflite"
    tflite.write(model, path, config_lib.Detection(), image_size=(480, 640))
    return path


@pytest.fixture
def images(photos):
    return [image_file.read(photos / name) for name in ("astronaut.png", "solvay1927.jpg")]


@pytest.fixture
def crowd(images):
    """A photo without a face, one with 1, one with 29 and one with over 200."""
    astronaut, solvay = images
    many = cv2.resize(np.tile(solvay, (3, 3, 1)), (1280, 576), interpolation=cv2.INTER_AREA)
    return [np.ascontiguousarray(astronaut[256:]), astronaut, solvay, many]


@pytest.fixture
def check_parity():
    """Checks a report of an export that rounds nothing."""

    def check(report, at_least=20):
        assert report["faces"] == report["faces_exported"] > at_least and report["unmatched"] == 0
        assert report["box"] < 0.5 and report["landmark"] < 0.5 and report["score"] < 1e-3

    return check
