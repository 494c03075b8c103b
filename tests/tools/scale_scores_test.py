import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays
from tools import scale_scores

_ANCHORS = config_lib.Config.preset("mobilenet025").anchors


def test_each_anchor_size_has_its_own_line(photos):
    model = model_lib.RetinaFace.from_preset("mobilenet025")
    image = image_file.read(photos / "astronaut.png")[None, 40:104, 200:296]
    before = model(image, training=False)
    factors, offsets = np.array([1, 2, 0.5, 1, 3, 1.5]), np.array([0, -1, 2, 0, 0.5, 0])
    arrays.assign(model, scale_scores.scale(arrays.read(model), _ANCHORS, factors, offsets), "scaled")
    after = model(image, training=False)

    # 12 x 8, 6 x 4 and 3 x 2 positions of two sizes each.
    size = np.concatenate([np.tile([0, 1], 96), np.tile([2, 3], 24), np.tile([4, 5], 6)])
    logits = [np.diff(np.asarray(outputs["scores"][0]))[:, 0] for outputs in (before, after)]
    np.testing.assert_allclose(logits[1], logits[0] * factors[size] + offsets[size], atol=1e-3)
    for name in set(before) - {"scores"}:
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize(
    "factors, offsets, message",
    [
        ([1] * 5, [0] * 6, "`factors` must be 6 finite numbers"),
        ([1] * 6, [0] * 5 + [np.nan], "`offsets` must be 6 finite numbers"),
        ([1] * 5 + [0], [0] * 6, "`factors` must be positive"),
    ],
)
def test_numbers_that_cannot_be_are_refused(factors, offsets, message):
    with pytest.raises(ValueError, match=message):
        scale_scores.scale({}, _ANCHORS, factors, offsets)


def test_a_network_without_a_head_for_each_level_is_refused():
    with pytest.raises(ValueError, match="expected weights of a head class_P3"):
        scale_scores.scale({}, _ANCHORS, [1] * 6, [0] * 6)
