import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.media import image_file
from keras_retinaface.network import decoding
from keras_retinaface.network import model as model_lib
from tools import fit_scores


def test_the_search_ends_at_the_best_numbers():
    factors, offsets = np.array([1.2, 0.8, 1.0]), np.array([0.5, 0.0, -1.0])

    def measure(tried_factors, tried_offsets):
        distance = np.abs(np.log(tried_factors / factors)).sum() + np.abs(tried_offsets - offsets).sum()
        return np.array([100 - 10 * distance, 90 - 10 * distance, 50 + 10 * distance])

    # Hard AP that counts for nothing may fall.
    found = fit_scores.search(measure, 3, np.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(found[0], factors, atol=0.06)
    np.testing.assert_allclose(found[1], offsets, atol=0.13)
    np.testing.assert_array_equal(found[2], measure(*found[:2]))
    # Where it counts as much as both others together, nothing is to be won.
    found = fit_scores.search(measure, 3, np.array([1.0, 1.0, 2.0]))
    np.testing.assert_array_equal(found[0], 1.0)
    np.testing.assert_array_equal(found[1], 0.0)


def test_what_is_gathered_is_what_detection_finds_and_whose_anchors_it_is(photos):
    model = model_lib.RetinaFace.from_preset("mobilenet025")
    path = photos / "solvay1927.jpg"
    (found, portrait), sizes = fit_scores.gather(model, [str(path), str(photos / "astronaut.png")])
    image = image_file.read(path)
    detection = config_lib.Detection(score_threshold=0.02, max_faces=300)
    expected = decoding.make_function(model, detection, 1)(image[None])
    count = int(expected["count"][0])
    assert count > 29 and len(found.scores) >= count
    np.testing.assert_allclose(found.boxes[:count], expected["boxes"][0, :count], atol=0.1)
    np.testing.assert_allclose(1 / (1 + np.exp(-found.scores[:count])), expected["scores"][0, :count], atol=1e-4)
    # Boxes of what are surely faces are about as large as their anchors: 29 in one photo, one in the other.
    boxes = np.concatenate([found.boxes[:29], portrait.boxes[:1]])
    anchors = np.ravel(model.config.anchors.sizes)[[*sizes[:29], sizes[len(found.scores)]]]
    assert (np.abs(np.log2(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) / anchors)) < 1.2).all()
    assert len(sizes) == len(found.scores) + len(portrait.scores) and len(set(anchors)) > 1
