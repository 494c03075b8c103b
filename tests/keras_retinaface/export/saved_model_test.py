import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.export import parity, saved_model
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from tests import pictures

DETECTION = config_lib.Detection()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "saved_model"
    saved_model.write(model, path, DETECTION)
    return path


@pytest.fixture(scope="module")
def signatures(path):
    loaded = tf.saved_model.load(str(path))
    yield loaded.signatures
    del loaded


@pytest.mark.slow
def test_saved_model_equals_keras(model, path, signatures, crowd, check_parity):
    counts = [int(signatures["serving_default"](image=tf.constant(image[None]))["count"][0]) for image in crowd]
    # At its full size the third shows a shoe that passes for a face, beside its 29.
    assert counts[:2] == [0, 1] and 29 <= counts[2] <= 30 and 200 <= counts[3] <= 300
    report = parity.measure(model, path, DETECTION, crowd)
    assert report["faces"] == sum(counts)
    check_parity(report, 229)


def test_it_holds_what_the_signatures_capture_and_no_layers(model, path):
    content = (path / "saved_model.pb").read_bytes()
    assert b"serve_jpeg" in content and b"_tf_keras" not in content
    stored = tf.train.list_variables(str(path / "variables" / "variables"))
    num_numbers = sum(np.prod(shape) for name, shape in stored if name.endswith("VARIABLE_VALUE"))
    assert num_numbers == sum(layer.count_params() for layer in model.layers)


@pytest.mark.slow
def test_writing_again_replaces_it_and_leaves_nothing_beside_it(path, tmp_path):
    shutil.copytree(path, tmp_path / "saved_model")
    (tmp_path / "saved_model" / "old").write_text("")
    small = model_lib.RetinaFace(config_lib.Config().replace(pyramid_channels=4))
    saved_model.write(small, tmp_path / "saved_model", DETECTION)
    assert [path.name for path in tmp_path.iterdir()] == ["saved_model"]
    assert sorted(found.name for found in (tmp_path / "saved_model").iterdir()) == sorted(
        found.name for found in path.iterdir()
    )


@pytest.fixture
def serve_jpeg(signatures):
    return signatures["serve_jpeg"]


@pytest.mark.long
def test_encoded_images_of_any_mix_and_broken_ones_are_one_batch(serve_jpeg, photos):
    names = ("astronaut.png", "solvay1927.jpg", "tfjs_three_people.jpg")
    files = [(photos / name).read_bytes() for name in names]
    # No image at all, nothing, the header of one, one that ends halfway.
    broken = [b"no image", b"", files[1][:20], files[2][: len(files[2]) // 2]]
    found = serve_jpeg(image_bytes=tf.constant([files[0], broken[0], files[1], *broken[1:], files[2]]))
    is_broken = [False, True, False, True, True, True, False]
    np.testing.assert_array_equal(found["is_broken"], is_broken)
    np.testing.assert_array_equal(found["count"], [1, 0, 30, 0, 0, 0, 3])  # 29 faces and a shoe
    for name in ("boxes", "scores", "landmarks"):
        assert not np.any(found[name].numpy()[is_broken])
    # Padded to the largest of the batch, an image's faces stay where they are.
    alone = serve_jpeg(image_bytes=tf.constant([files[0]]))
    np.testing.assert_allclose(found["boxes"][0], alone["boxes"][0], atol=0.1)
    only_broken = serve_jpeg(image_bytes=tf.constant(broken[:1]))
    assert only_broken["count"] == 0 and bool(only_broken["is_broken"])


@pytest.mark.long
def test_photos_of_every_orientation_have_the_faces_that_detection_finds(model, serve_jpeg, photos):
    astronaut = image_file.read(photos / "astronaut.png")[:300, 60:400]
    files = [pictures.turned(astronaut, number, quality=95) for number in pictures.ORIENTATIONS]
    files += [pictures.turned(astronaut, number, "PNG", ">") for number in pictures.ORIENTATIONS]
    found = serve_jpeg(image_bytes=tf.constant(files))
    reference = detector.Detector(model)
    for row, content in enumerate(files):
        (face,) = reference.detect(image_file.decode(content, "photo"))
        assert found["count"][row] == 1
        np.testing.assert_allclose(found["boxes"][row, 0], face.box, atol=0.05)
        np.testing.assert_allclose(found["landmarks"][row, 0], face.landmarks, atol=0.05)
        np.testing.assert_allclose(found["scores"][row, 0], face.score, atol=1e-4)
