import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, matcher, mesh_code
from keras_retinaface.mesh import camera, dense_loss, face_model, renderer

SIZE = 48
ANCHORS = config_lib.Anchors(strides=(32,), sizes=((32.0,),))
STRAIGHT = np.array([[0, 0, 75, 0, 0, 0, camera.FOCAL]], np.float32)


@pytest.fixture(scope="module")
def face():
    return face_model.load()


class LinearDecoder:
    """The first numbers of the code move along identity modes: all that the loss needs of a decoder, and fast."""

    def __init__(self, face):
        colours = face.sample_colours(np.random.default_rng(0), 64).mean(0)
        self.mean = np.concatenate([face.mean, colours], 1)
        self.modes = np.concatenate([face.identity[:20], 0 * face.identity[:20]], -1)

    def __call__(self, code):
        return self.mean + tf.einsum("nm,mvc->nvc", code[:, :20], self.modes)


@pytest.fixture(scope="module")
def decoder(face):
    return LinearDecoder(face)


def head(**numbers):
    row = np.zeros((1, dense_loss.HEAD_SIZE), np.float32)
    for name, value in numbers.items():
        start = {"code": 0, "camera": 128, "light": 135}[name]
        row[0, start : start + len(value)] = value
    return tf.constant(row)


def picture(face, decoder, row, start=STRAIGHT):
    """Renders what a head row stands for, before a green wall."""
    numbers, light = camera.unpack(row[:, 128:], tf.constant(start))
    mesh = decoder(row[:, :128])
    image, mask, _ = renderer.render(mesh[..., :3], mesh[..., 3:], face.triangles, numbers, light, (SIZE, SIZE))
    return image + (1 - mask) * [0.1, 0.8, 0.1]


def loss(face, decoder, row, crops, start=STRAIGHT, weight=None, **options):
    valid = tf.ones((*crops.shape[:3], 1))
    weight = tf.ones(row.shape[0]) if weight is None else tf.constant(weight, tf.float32)
    return dense_loss.dense_loss(row, crops, valid, tf.constant(start), weight, decoder, face, **options)


def test_true_numbers_cost_only_their_priors(face, decoder):
    row = head(code=[1.0, -2.0], camera=[0, 0, 0, 0, 0.5], light=[0.3])
    total, error, count = loss(face, decoder, row, picture(face, decoder, row))
    assert float(count) == 1 and float(error) < 1e-6
    assert float(total) == pytest.approx(0.01 * 5 / 128 + 0.01 * 0.25 / 7 + 0.01 * 0.09 / 9, rel=1e-4)


def test_worked_example_of_the_photometric_part(face, decoder):
    # A picture brighter by 0.25 everywhere: each covered pixel differs by that, and the mean face covers itself.
    row = head()
    total, error, _ = loss(face, decoder, row, picture(face, decoder, row) + 0.25)
    assert float(error) == pytest.approx(0.25, abs=1e-5)
    # The mean face of this decoder is the mean face of the start.
    assert float(total) == pytest.approx(0.25, abs=1e-5)


def test_shrinking_does_not_pay(face, decoder):
    # A picture that no face explains. Going away, turning away or leaving the crop must cost more than staying.
    noise = tf.random.stateless_uniform((1, SIZE, SIZE, 3), (1, 2))
    stay = float(loss(face, decoder, head(), noise)[0])
    for away in ([0, 0, 10], [0, 0, 40], [0, 0, 0, 0, 5.5], [0, 0, 0, 4.0], [20], [0, -12]):
        priceless = {"camera_prior": 0.0}
        assert float(loss(face, decoder, head(camera=away), noise, **priceless)[0]) > stay
    # And the slope says so too, though visibility has none.
    row = head(camera=[0, 0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(row)
        total = loss(face, decoder, row, noise, camera_prior=0.0)[0]
    assert float(tape.gradient(total, row)[0, 128 + 2]) > 0


def test_padding_and_what_is_not_finite_there(face, decoder):
    row = tf.concat([head(code=[0.5]), tf.fill((1, dense_loss.HEAD_SIZE), np.nan)], 0)
    crops = tf.repeat(picture(face, decoder, head()), 2, 0)
    start = np.repeat(STRAIGHT, 2, 0)
    with tf.GradientTape() as tape:
        tape.watch(row)
        total, error, count = loss(face, decoder, row, crops, start, weight=[1, 0])
    slope = tape.gradient(total, row).numpy()
    alone = loss(face, decoder, row[:1], crops[:1])
    np.testing.assert_allclose([total, error, count], alone, rtol=1e-5)
    assert np.isfinite(slope).all() and slope[0].any() and not slope[1].any()
    nothing = loss(face, decoder, row, crops, start, weight=[0, 0])
    assert [float(value) for value in nothing] == [0, 0, 0]


def test_gradient_equals_finite_differences_of_smooth_numbers(face, decoder):
    # Colours and light move no edge, so the whole loss is smooth in them.
    row = head(code=[0.3, 0.2], camera=[0.1, 0.2, -0.5, 0.3, 0.4])
    crops = picture(face, decoder, head()) + 0.3
    with tf.GradientTape() as tape:
        tape.watch(row)
        total = loss(face, decoder, row, crops)[0]
    slope = tape.gradient(total, row).numpy()[0]
    for index in (135, 138, 139, 142):
        step = tf.one_hot([index], dense_loss.HEAD_SIZE) * 0.02
        numeric = (
            float(loss(face, decoder, row + step, crops)[0]) - float(loss(face, decoder, row - step, crops)[0])
        ) / 0.04
        assert slope[index] == pytest.approx(numeric, rel=0.03, abs=2e-5)


@pytest.mark.parametrize("index, step", [(0, 4.0), (128, 0.6), (129, 0.6), (130, 0.8), (133, 0.2)])
def test_outline_follows_finite_differences(face, decoder, index, step, monkeypatch):
    # A white face in ambient light before black: inside nothing changes, all is in the outline. Its pixels come and go
    # one by one, so the difference is taken over several of them.
    monkeypatch.setattr(camera, "LIGHT", (0.0, 0.0, 60.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0))
    monkeypatch.setattr(dense_loss, "UNCOVERED_COST", 0.5)
    white = LinearDecoder(face)
    white.mean = np.concatenate([face.mean, np.ones_like(face.mean)], 1)
    row = head(camera=[1.0, -1.0, 0.5, 0.3, -0.5, 0.6])
    crops = tf.fill((1, 96, 96, 3), 0.3)

    def total(shifted):
        return loss(face, white, shifted, crops, code_prior=0.0, camera_prior=0.0)[0]

    with tf.GradientTape() as tape:
        tape.watch(row)
        value = total(row)
    direction = tf.one_hot([index], dense_loss.HEAD_SIZE)
    slope = float(tf.reduce_sum(tape.gradient(value, row) * direction))
    # Costs 0.7 inside against 0.35 or nothing outside: without the outline's part the slope would be zero.
    numeric = float(total(row + step * direction) - total(row - step * direction)) / (2 * step)
    assert abs(numeric) > 1e-4 and slope == pytest.approx(numeric, rel=0.3)


@pytest.mark.long
def test_descent_explains_a_picture(face, decoder):
    truth = head(
        code=[2.0, -1.5, 1.0], camera=[1.0, -1.0, 0.5, 0.6, -1.0, 0.4], light=[1.0, -1, 0, -0.8, -0.8, -0.8, 0.6, 0.3]
    )
    crops = picture(face, decoder, truth)
    row = tf.Variable(head())
    first = second = tf.zeros_like(row)

    @tf.function
    def slope():
        with tf.GradientTape() as tape:
            total, error, _ = loss(face, decoder, row + 0, crops, code_prior=1e-4, camera_prior=1e-4, light_prior=1e-4)
        return tape.gradient(total, row), error

    errors = []
    for step in range(1, 301):
        gradient, error = slope()
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        row.assign_sub(0.05 * (first / (1 - 0.9**step)) / (tf.sqrt(second / (1 - 0.99**step)) + 1e-8))
        errors.append(float(error))
    assert errors[-1] < 0.25 * errors[0]
    np.testing.assert_allclose(row[0, 131:134] * 0.25, truth[0, 131:134] * 0.25, atol=0.08)


def test_crop_of_whole_pixels_and_beyond_the_border():
    image = np.zeros((1, 6, 8, 3), np.uint8)
    image[0, :, :, 0] = np.arange(8)[None] * 10
    image[0, :, :, 1] = np.arange(6)[:, None] * 10
    boxes = tf.constant([[2.0, 1.0, 6.0, 5.0], [-2.0, -2.0, 2.0, 2.0]])
    crops, valid = dense_loss.crop(tf.constant(image), boxes, tf.zeros(2, tf.int32), 4)
    np.testing.assert_allclose(crops[0, 0, :, 0] * 255, [20, 30, 40, 50], atol=1e-3)
    np.testing.assert_allclose(crops[0, :, 0, 1] * 255, [10, 20, 30, 40], atol=1e-3)
    assert valid.numpy()[0].all()
    np.testing.assert_array_equal(valid[1, :, :, 0], np.outer([0, 0, 1, 1], [0, 0, 1, 1]))
    # Two pixels to one: each sample lies between two pixels.
    halves, _ = dense_loss.crop(tf.constant(image), boxes[:1], tf.zeros(1, tf.int32), 2)
    np.testing.assert_allclose(halves[0, 0, :, 0] * 255, [25, 45], atol=1e-3)


def test_choose_anchors():
    candidates = np.zeros((2, 50), bool)
    candidates[0, [3, 4]] = candidates[1, 7] = True
    rows, weight = dense_loss.choose_anchors(tf.constant(candidates), 5)
    assert float(tf.reduce_sum(weight)) == 3
    assert {tuple(row) for row in rows.numpy()[:3]} == {(0, 3), (0, 4), (1, 7)}
    rows, weight = dense_loss.choose_anchors(tf.ones((2, 50), tf.bool), 5)
    assert float(tf.reduce_sum(weight)) == 5 and len({tuple(row) for row in rows.numpy()}) == 5
    rows, weight = dense_loss.choose_anchors(tf.zeros((1, 2), tf.bool), 5)
    assert rows.shape == (5, 2) and not weight.numpy().any()


@pytest.fixture(scope="module")
def total():
    boxes = anchor.generate((64, 64), ANCHORS.strides, ANCHORS.sizes)[None]  # [1, 4, 4]
    code = np.zeros((1, 4, mesh_code.SIZE), np.float32)
    code[0, 1, : mesh_code.CODE_SIZE] = 0.5
    code[0, 1, mesh_code.CODE_SIZE :][: mesh_code.CAMERA_SIZE] = 0.2
    code[0, 1, mesh_code.CODE_SIZE + mesh_code.CAMERA_SIZE :] = 0.1
    state = [[matcher.NEGATIVE, matcher.POSITIVE, matcher.IGNORED, matcher.NEGATIVE]]
    outputs = {"mesh_code": code, "box_deltas": tf.zeros((1, 4, 4)), "landmark_deltas": tf.zeros((1, 4, 5, 2))}

    def compute(**changes):
        loss = dense_loss.Photometric(config_lib.Loss(dense_crop=8, dense_max_faces=2, **changes), ANCHORS)
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
