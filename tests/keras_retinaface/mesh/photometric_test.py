"""What the fields of the config do to the loss; how it trains is in `network/dense_model_test.py`."""

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, matcher, mesh_code

ANCHORS = config_lib.Anchors(strides=(32,), sizes=((32.0,),))


@pytest.fixture(scope="module")
def total():
    # Where tensorflow-graphics is missing there is no renderer.
    pytest.importorskip("tensorflow_graphics")
    from keras_retinaface.mesh import photometric

    boxes = anchor.generate((64, 64), ANCHORS.strides, ANCHORS.sizes)[None]  # [1, 4, 4]
    code = np.zeros((1, 4, mesh_code.SIZE), np.float32)
    code[0, 1, : mesh_code.CODE_SIZE] = 0.5
    code[0, 1, mesh_code.CODE_SIZE :][: mesh_code.CAMERA_SIZE] = 0.2
    code[0, 1, mesh_code.CODE_SIZE + mesh_code.CAMERA_SIZE :] = 0.1
    state = [[matcher.NEGATIVE, matcher.POSITIVE, matcher.IGNORED, matcher.NEGATIVE]]
    outputs = {"mesh_code": code, "box_deltas": tf.zeros((1, 4, 4)), "landmark_deltas": tf.zeros((1, 4, 5, 2))}

    def compute(**changes):
        loss = photometric.Photometric(config_lib.Loss(dense_crop=8, dense_max_faces=2, **changes), ANCHORS)
        targets = {"state": tf.constant(state), "matched_box": boxes}
        return [float(part) for part in loss(tf.zeros((1, 64, 64, 3)), targets, outputs)]

    return compute


@pytest.mark.parametrize(
    "name, mean_square", [("dense_code_prior", 0.25), ("dense_camera_prior", 0.04), ("dense_light_prior", 0.01)]
)
def test_each_prior_costs_its_weight_times_the_mean_square(total, name, mean_square):
    # One face of four anchors, so the sum is its loss.
    nothing = dict.fromkeys(("dense_code_prior", "dense_camera_prior", "dense_light_prior"), 0.0)
    free, _, count = total(**nothing)
    assert count == 1
    assert total(**{**nothing, name: 2.0})[0] - free == pytest.approx(2 * mean_square, rel=1e-4)


def test_faces_under_the_least_size_have_no_loss(total):
    assert total(dense_min_face=33.0) == [0, 0, 0]
