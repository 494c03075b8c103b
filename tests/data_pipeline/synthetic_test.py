import numpy as np
import pytest

from data_pipeline import dataset, synthetic
from keras_retinaface import config as config_lib
from keras_retinaface.geometry import matcher
from keras_retinaface.mesh import face_model


@pytest.fixture(scope="module")
def face():
    return face_model.load()


def test_same_seed_same_scene(face):
    one, again, other = (synthetic.draw(face, seed, 3, (120, 160)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.vertices, again.vertices)
    assert one.image.shape == (120, 160, 3) and one.image.dtype == np.uint8
    assert np.abs(one.image.astype(int) - other.image).mean() > 5


def test_boxes_points_and_vertices_agree(face):
    for index in range(6):
        scene = synthetic.draw(face, 1, index)
        height, width = scene.image.shape[:2]
        edges = np.concatenate([scene.vertices.min(1), scene.vertices.max(1)], 1)
        np.testing.assert_allclose(scene.boxes, np.clip(edges, 0, [width, height, width, height]), atol=1e-3)
        np.testing.assert_allclose(scene.landmarks, face.five_points(scene.vertices), atol=1e-3)
        sizes = edges[:, 3] - edges[:, 1]
        assert (sizes >= synthetic.SMALLEST).all() and (sizes <= synthetic.LARGEST).all()
        assert ((scene.boxes[:, 2:] - scene.boxes[:, :2]) > 2).all()


def test_image_shows_the_model_where_the_vertices_say(face):
    # Whites of eyes are brighter than irises where both show: colours are where their vertices are.
    found = []
    for index in range(40):
        scene = synthetic.draw(face, 2, index, num_faces=2)
        for points, visible, box in zip(scene.vertices, scene.vertex_visible, scene.boxes):
            if box[3] - box[1] < 120:
                continue
            parts = [(face.regions["sclera"] > 0.9) & (face.regions["iris"] < 0.1), face.regions["iris"] > 0.8]
            values = []
            for part in parts:
                columns, rows = np.floor(points[part & visible]).astype(int).T
                values.append(scene.image[rows, columns].mean() if len(rows) else np.nan)
            if np.isfinite(values).all():
                found.append(values[0] > values[1])
    assert len(found) >= 8 and np.mean(found) > 0.85


def test_visibility_of_a_turned_face_and_of_one_behind_another(face):
    # Over many scenes some vertices hide, and what shows lies inside the image.
    scenes = [synthetic.draw(face, 4, index) for index in range(8)]
    for scene in scenes:
        shown = scene.vertices[scene.vertex_visible]
        assert (shown >= 0).all() and (shown < [640, 480]).all()
        hidden_faces = scene.visible_share < 0.05
        assert scene.vertex_visible[hidden_faces].mean() < 0.2 if hidden_faces.any() else True
        whole = scene.visible_share > 0.97
        assert scene.vertex_visible[whole].mean() > 0.5 if whole.any() else True
    assert min(scene.visible_share.min() for scene in scenes) < 0.9


def test_no_faces(face):
    scene = synthetic.draw(face, 0, 0, (64, 64), num_faces=0)
    assert scene.boxes.shape == (0, 4) and scene.landmarks.shape == (0, 5, 2) and scene.vertex_visible.size == 0


def test_dataset_of_drawn_images():
    config = config_lib.Config().replace(image_size=(320, 320), batch_size=2)
    source = synthetic.open("synthetic:5")
    assert source.num_records == 5
    batches = dataset.make_dataset(config, None, source, training=True, seed=3)
    images, targets = next(iter(batches))
    again, _ = next(iter(dataset.make_dataset(config, None, source, training=True, seed=3)))
    np.testing.assert_array_equal(images, again)
    is_positive = targets["state"].numpy() == matcher.POSITIVE
    assert is_positive.any()
    # Points are known for every face; only those that the crop cuts off do not count.
    assert targets["landmark_weight"].numpy()[is_positive].mean() > 0.8
    names = [
        name
        for _, targets in dataset.make_dataset(config, None, source, training=False, with_names=True)
        for name in targets["image_name"].numpy()
    ]
    assert names == [f"synthetic_{index:06d}.png".encode() for index in range(5)]


def test_epochs_hold_every_image_once():
    source = synthetic.open("synthetic:7")
    items = [int(item) for _, item in source.shuffled(1, 0, 1, 0).take(14)]
    assert sorted(items[:7]) == sorted(items[7:]) == list(range(7)) and items[:7] != items[7:]
    shares = [[int(item) for _, item in source.shuffled(1, 0, 2, worker).take(7)] for worker in (0, 1)]
    assert [item for pair in zip(*shares) for item in pair] == items
    # Also seeds that agree in their low bits, which are all that TensorFlow's own shuffle of a small set uses.
    orders = {tuple(int(item) for _, item in source.shuffled(1 + (k << 8), 0, 1, 0).take(7)) for k in range(4)}
    assert len(orders) == 4


@pytest.mark.parametrize("name", ["synthetic:", "synthetic:0", "synthetic:x", "photos"])
def test_wrong_names(name):
    with pytest.raises(ValueError, match=f"`images` must be synthetic:N with N from 1. Received: '{name}'"):
        synthetic.open(name)
