import pathlib

import pytest

from keras_retinaface.evaluation import prediction, table, wider_face


@pytest.fixture(scope="package")
def mini():
    return pathlib.Path(__file__).parents[2] / "testdata" / "wider_face_mini"


@pytest.fixture(scope="package")
def ground_truth(mini):
    return wider_face.load_ground_truth(mini / "gt")


@pytest.fixture(scope="package")
def predictions(mini, ground_truth):
    return prediction.read(mini / "pred", ground_truth.names)[0]


@pytest.fixture(scope="package")
def detections(predictions, ground_truth):
    return table.stack(predictions, ground_truth.names)
