import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.export import parity, saved_model
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from tests import pictures

DETECTION = config_lib.Detection()


@pytest.mark.slow
def test_saved_model_equals_keras(model, crowd, tmp_path, check_parity):
    path = tmp_path / "saved_model"
    saved_model.write(model, path, DETECTION)
    # At its full size the third shows a shoe that passes for a face, beside its 29.
    for image, at_least, at_most in zip(crowd, (0, 1, 29, 200), (0, 1, 30, 300)):
        report = parity.measure(model, path, DETECTION, [image])
        assert at_least <= report["faces"] <= at_most
        check_parity(report, at_least - 1)
    # Writing again replaces it, and leaves nothing beside it.
    saved_model.write(model, path, DETECTION)
    assert [p.name for p in tmp_path.iterdir()] == ["saved_model"]


@pytest.fixture(scope="module")
def serve_jpeg(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "saved_model"
    saved_model.write(model, path, DETECTION)
    loaded = tf.saved_model.load(str(path))
    yield loaded.signatures["serve_jpeg"]
    del loaded


@pytest.mark.slow
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


@pytest.mark.slow
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
