import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_graphics.geometry.representation.mesh import normals
from tensorflow_graphics.rendering.reflectance import lambertian

from keras_retinaface.mesh import camera, face_model, rasterizer, renderer

SIZE = (48, 40)


@pytest.fixture(scope="module")
def face():
    return face_model.load()


@pytest.fixture(scope="module")
def scene(face):
    rng = np.random.default_rng(5)
    cameras = [[0.5, 1.0, 75.0, 0.1, 0.3, 0.1, 6.0], [-1.0, 0.0, 65.0, -0.1, -0.4, 0.0, 5.5]]
    lights = [[-20, 30, 60, 0.6, 0.5, 0.4, 0.3, 0.4, 0.5], [30, 10, 50, 0.4, 0.5, 0.6, 0.5, 0.4, 0.3]]
    return {
        "vertices": tf.constant(face.sample_shapes(rng, 2)),
        "colours": tf.constant(face.sample_colours(rng, 2)),
        "camera": tf.constant(cameras, tf.float32),
        "light": tf.constant(lights, tf.float32),
    }


def make_render(face, size=SIZE, **options):
    @tf.function
    def render(vertices, colours, camera, light):
        return renderer.render(vertices, colours, face.triangles, camera, light, size, **options)

    return render


def test_one_lit_triangle():
    # A white triangle that fills the image, facing the camera at 60 cm; the light straight ahead at the camera.
    x, y, z = camera.PIVOT
    vertices = tf.constant([[[x - 90, y - 90, z], [x + 90, y - 90, z], [x, y + 180, z]]])
    light = tf.constant([[x, y, z + 6000.0, 0.5, 0.25, 0.0, 0.1, 0.1, 0.2]])
    numbers = tf.constant([[0, 0, 60, 0, 0, 0, 6]], tf.float32)
    image, mask, _ = renderer.render(vertices, tf.ones((1, 3, 3)), tf.constant([[0, 1, 2]]), numbers, light, (3, 5))
    assert mask.numpy().min() == 1
    np.testing.assert_allclose(image, np.broadcast_to([0.6, 0.35, 0.2], (1, 3, 5, 3)), atol=1e-3)
    # From behind, it is turned away.
    behind = tf.constant([[0, 0, 60, 0, np.pi, 0, 6]], tf.float32)
    image, mask, _ = renderer.render(vertices, tf.ones((1, 3, 3)), tf.constant([[0, 1, 2]]), behind, light, (3, 5))
    assert not mask.numpy().any() and not image.numpy().any()


def test_interpolation_is_in_perspective():
    # An edge from 30 to 90 cm away: at the middle of its projection the far end has a weight of 30 / (30 + 90).
    x, y, z = camera.PIVOT
    vertices = tf.constant([[[x - 5, y - 60, z + 30], [x + 15, y - 60, z - 30], [x + 15, y + 400, z - 30]]])
    vertices = tf.concat([vertices, vertices[:, :1] + [[0.0, 400.0, 0.0]]], 1)
    colours = tf.constant([[[0.0] * 3, [1.0] * 3, [1.0] * 3, [0.0] * 3]])
    light = tf.constant([[0, 0, 1e6, 0, 0, 0, 1, 1, 1]], tf.float32)
    numbers = tf.constant([[0, 0, 60, 0, 0, 0, 6]], tf.float32)
    triangles = tf.constant([[0, 1, 2], [0, 2, 3]])
    image, mask, _ = renderer.render(vertices, colours, triangles, numbers, light, (1, 101))
    assert mask.numpy()[0, 0, 50] == 1
    np.testing.assert_allclose(image[0, 0, 50, 0], 0.25, atol=1e-4)


def test_shading_equals_tensorflow_graphics(face, scene):
    theirs = normals.vertex_normals(scene["vertices"], np.stack([face.triangles] * 2), clockwise=True)
    ours = renderer.vertex_normals(scene["vertices"], face.triangles)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    shaded = renderer.shade(scene["vertices"], scene["colours"], face.triangles, scene["light"])
    position, strength, ambient = (part[:, None] for part in tf.split(scene["light"], 3, -1))
    incoming = tf.math.l2_normalize(scene["vertices"] - position, -1)
    # Straight out: towards the camera the same, but what is turned away from it is never drawn, and there it is zero.
    diffuse = np.pi * lambertian.brdf(incoming, theirs, theirs, scene["colours"])
    facing = tf.nn.relu(-tf.reduce_sum(incoming * theirs, -1, keepdims=True))
    expected = ambient * scene["colours"] + strength * facing * diffuse
    np.testing.assert_allclose(shaded, expected, atol=1e-4)


def triangle_ids(face, vertices, numbers):
    clip = tf.matmul(
        tf.concat([vertices, tf.ones_like(vertices[..., :1])], -1),
        camera.view_projection(numbers, SIZE[1] / SIZE[0]),
        transpose_b=True,
    )
    ids, covered = rasterizer.rasterize(clip * [1.0, -1, 1, 1], tf.gather(face.triangles, (0, 2, 1), axis=1), SIZE)
    return tf.where(covered, ids, -1)


@pytest.mark.parametrize("name, step", [("vertices", 2e-3), ("colours", 1e-2), ("camera", 1e-3), ("light", 1e-2)])
def test_gradients_equal_finite_differences_inside_triangles(face, scene, name, step):
    render = make_render(face)
    rng = np.random.default_rng(7)
    noise = tf.constant(rng.uniform(0.5, 1.5, (2, *SIZE, 3)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scene[name])
        total = tf.reduce_sum(render(**scene)[0] * noise)
    # Uphill: at random most of the slope cancels out, and what is left is no larger than the differences' own error.
    direction = tape.gradient(total, scene[name])
    direction /= tf.math.reduce_std(direction)
    ahead, behind = ({**scene, name: scene[name] + sign * step * direction} for sign in (1, -1))
    seen = [triangle_ids(face, s["vertices"], s["camera"]) for s in (scene, ahead, behind)]
    is_inside = (seen[0] == seen[1]) & (seen[0] == seen[2]) & (seen[0] >= 0)
    assert tf.reduce_mean(tf.cast(is_inside, tf.float32)) > 0.25
    weights = noise * tf.cast(is_inside, tf.float32)[..., None]
    with tf.GradientTape() as tape:
        tape.watch(scene[name])
        total = tf.reduce_sum(render(**scene)[0] * weights)
    slope = float(tf.reduce_sum(tape.gradient(total, scene[name]) * direction))
    difference = tf.cast(render(**ahead)[0], tf.float64) - tf.cast(render(**behind)[0], tf.float64)
    numeric = float(tf.reduce_sum(difference * tf.cast(weights, tf.float64))) / (2 * step)
    assert abs(numeric) > 0.1
    assert slope == pytest.approx(numeric, rel=0.02)


def test_positions_are_pixel_centres_that_move_with_the_surface(face, scene):
    render = make_render(face)
    drawn = render(**scene)
    rows, columns = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5, indexing="ij")
    is_covered = drawn.mask.numpy()[..., 0] > 0
    centres = np.broadcast_to(np.stack([columns, rows], -1), drawn.position.shape)
    np.testing.assert_allclose(drawn.position.numpy()[is_covered], centres[is_covered], atol=5e-3)
    # The camera a centimetre to the left: all moves right, by about focal length / distance half heights.
    with tf.autodiff.ForwardAccumulator(scene["camera"], tf.one_hot([0, 0], 7) * -1.0) as accumulator:
        position = renderer.render(
            scene["vertices"], scene["colours"], face.triangles, scene["camera"], scene["light"], SIZE
        ).position
    motion = accumulator.jvp(position).numpy()
    for face_motion, numbers, covered in zip(motion, scene["camera"].numpy(), is_covered):
        expected = numbers[6] / numbers[2] * SIZE[0] / 2
        np.testing.assert_allclose(face_motion[covered].mean(0), [expected, 0], rtol=0.1, atol=1e-3)


@pytest.mark.compiler
def test_backends_draw_the_same_image(face, scene):
    images = [make_render(face, backend=backend)(**scene)[0] for backend in (rasterizer.KERNEL, rasterizer.PLAIN)]
    np.testing.assert_allclose(*images, atol=1e-6)


def test_unknown_batch_and_a_face_out_of_sight(face, scene):
    signature = [tf.TensorSpec((None, *scene[name].shape[1:])) for name in ("vertices", "colours", "camera", "light")]

    @tf.function(input_signature=signature)
    def gradient(vertices, colours, numbers, light):
        with tf.GradientTape() as tape:
            tape.watch(numbers)
            image, _, _ = renderer.render(vertices, colours, face.triangles, numbers, light, SIZE)
            total = tf.reduce_sum(image)
        return total, tape.gradient(total, numbers)

    away = tf.constant([[500.0, 0, 60, 0, 0, 0, 6], [0, 0, -60, 0, 0, 0, 6]])
    total, slope = gradient(scene["vertices"], scene["colours"], away, scene["light"])
    assert float(total) == 0 and not slope.numpy().any()
    empty = [scene[name][:0] for name in ("vertices", "colours", "camera", "light")]
    assert float(gradient(*empty)[0]) == 0


def fit(face, truth, start, free, learning_rate, steps):
    """Fits the free tensors of a scene to an image of the true one by Adam; returns them."""
    target, mask, _ = make_render(face)(**truth)
    variables = {name: tf.Variable(start[name]) for name in free}
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(list(variables.values()))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            image, covered, _ = renderer.render(
                triangles=face.triangles, image_size=SIZE, **{**truth, **{k: v + 0 for k, v in variables.items()}}
            )
            loss = tf.reduce_mean(tf.abs(image - target) * covered * mask)
        gradients = tape.gradient(loss, list(variables.values()))
        optimizer.apply_gradients(zip(gradients, variables.values()))
        return loss

    losses = [float(step()) for _ in range(steps)]
    return variables, losses


@pytest.mark.slow
def test_optimisation_finds_pose_and_light(face, scene):
    truth = {name: value[:1] for name, value in scene.items()}
    start = {
        "camera": truth["camera"] + [[1.0, -0.8, 4.0, 0.1, -0.2, 0.1, 0.0]],
        "light": truth["light"] * [[1, 1, 1, 0.6, 0.6, 1.4, 1.4, 1.4, 0.7]],
    }
    found, losses = fit(face, truth, start, ("camera", "light"), 0.02, 400)
    assert losses[-1] < 0.1 * losses[0]
    np.testing.assert_allclose(found["camera"][0, 3:6], truth["camera"][0, 3:6], atol=0.03)
    # Distance over focal length is the size; the two alone are barely told apart.
    size = [float(numbers[0, 2] / numbers[0, 6]) for numbers in (found["camera"], truth["camera"])]
    assert size[0] == pytest.approx(size[1], rel=0.02)
    np.testing.assert_allclose(found["light"][0, 3:], truth["light"][0, 3:], atol=0.06)


@pytest.mark.slow
def test_optimisation_finds_colours(face, scene):
    truth = {name: value[:1] for name, value in scene.items()}
    start = {"colours": tf.fill(truth["colours"].shape, 0.5)}
    found, losses = fit(face, truth, start, ("colours",), 0.02, 200)
    assert losses[-1] < 0.05 * losses[0]
    seen = np.unique(face.triangles[np.unique(triangle_ids(face, truth["vertices"], truth["camera"])[0])[1:]])
    error = np.abs(found["colours"].numpy() - truth["colours"].numpy())[0, seen]
    assert np.median(error) < 0.02
