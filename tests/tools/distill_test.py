import json
import os

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver

from keras_retinaface import config
from keras_retinaface.inference import detector
from keras_retinaface.layers import backbone
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays
from tools import distill

PHOTOS = ["examples/photos/fr_obama.jpg", "examples/photos/tfjs_three_people.jpg"]


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    photo = tf.random.stateless_uniform((1, 96, 128, 3), (1, 2), maxval=255.0)
    distiller = distill.Distiller(
        model_lib.RetinaFace.from_preset("mobilenet025"),
        model_lib.RetinaFace.from_preset("mobilenet025"),
        has_frozen_norms=True,
    )
    distiller.compile()
    found = distiller.evaluate(tf.data.Dataset.from_tensors(photo), return_dict=True, verbose=0)
    assert [found[name] for name in ("scores", "boxes", "landmarks")] == pytest.approx([0, 0, 0], abs=1e-5)
    assert found["loss"] == pytest.approx(found["maps"]) and found["maps"] > 0  # seen through random layers


def test_landmarks_are_learnt_from_points_where_there_are_any():
    model = model_lib.RetinaFace.from_preset("mobilenet025")
    photo = image_file.read(PHOTOS[0])[None, :320, :320].astype(np.float32)
    outputs = model(photo)
    is_face = float(tf.reduce_sum(tf.nn.softmax(outputs["scores"])[..., 1]))
    assert is_face > 1
    distiller = distill.Distiller(model, model_lib.RetinaFace.from_preset("mobilenet025"), has_frozen_norms=True)
    distiller.compile()
    for known, wanted in ((1.0, 2.0 * is_face / (is_face + 1)), (0.0, 0.0)):
        targets = {
            "landmark_deltas": outputs["landmark_deltas"] + 2.0,
            "landmark_weight": tf.fill(tf.shape(outputs["landmark_deltas"])[:3], known),
        }
        found = distiller.evaluate(tf.data.Dataset.from_tensors((photo, targets)), return_dict=True, verbose=0)
        assert found["landmarks"] == pytest.approx(wanted, rel=1e-3)
        assert found["scores"] == pytest.approx(0, abs=1e-4)


@pytest.mark.long
def test_a_student_learns_and_its_teacher_does_not():
    teacher = model_lib.RetinaFace.from_preset("mobilenet025")
    photo = np.full((64, 64, 3), 120, np.uint8)
    student = distill.make_student(teacher, config.Config.preset("mobilenet025_fast"), [photo])
    for layer in backbone.layers_up_to(student, "C5"):
        layer.trainable = False
    before = {name: arrays.read(model) for name, model in (("teacher", teacher), ("student", student))}
    data = distill.make_dataset(PHOTOS, (160, 192), 2, student.get_layer("subtract_mean").mean, seed=0)
    distiller = distill.Distiller(teacher, student, has_frozen_norms=False)
    losses = []
    for _ in range(2):
        distill.teach(distiller, data, 20, 2e-3, lambda: losses.append(float(distiller.metrics[0].result())))
    assert losses[1] < 0.8 * losses[0]
    after = arrays.read(student)
    moved = {name.split("/")[0] for name, value in before["student"].items() if not np.array_equal(value, after[name])}
    assert {"merge_P3", "context_P5_7x7_3_bn", "class_P4"} <= moved and not any(n.startswith("stage") for n in moved)
    assert all(np.array_equal(value, before["teacher"][name]) for name, value in arrays.read(teacher).items())


def test_photos_are_cut_and_padded_with_the_mean():
    mean = (123.0, 117.0, 104.0)
    batch = next(iter(distill.make_dataset(PHOTOS[:1], (64, 6000), 3, mean, seed=1))).numpy()
    assert batch.shape == (3, 64, 6000, 3) and batch.min() >= 0 and batch.max() <= 255
    assert np.allclose(batch[:, :, -1], mean, atol=1e-4)
    assert not np.allclose(batch[0], batch[1])


@pytest.mark.long
def test_a_network_that_teaches_itself_learns_points_and_keeps_its_scores(tmp_path):
    distill.FLAGS.mark_as_parsed()
    before = model_lib.RetinaFace.from_preset("mobilenet025")
    name = os.path.basename(PHOTOS[0])
    (face,) = detector.Detector(before).detect(PHOTOS[0])
    height, width = image_file.read(PHOTOS[0]).shape[:2]
    # Points a tenth of the face further down than where it sees them.
    points = face.landmarks + [0, 0.1 * (face.box[3] - face.box[1])]
    row = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 5}
    row["bbox"] = [float(v) for v in (*face.box[:2], *(face.box[2:] - face.box[:2]))]
    row["keypoints"] = [float(n) for x, y in points for n in (x, y, 2)]
    annotations = tmp_path / "points.json"
    picture = {"id": 1, "file_name": name, "height": height, "width": width}
    categories = [{"id": 1, "name": "face"}]
    annotations.write_text(json.dumps({"images": [picture], "annotations": [row], "categories": categories}))
    with flagsaver.flagsaver(
        **{"teacher": "mobilenet025", "student": "mobilenet025", "init": "mobilenet025", "map_weight": 0.0},
        **{"images": os.path.dirname(PHOTOS[0]), "annotations": str(annotations), "workdir": str(tmp_path)},
        **{"output": str(tmp_path / "taught.npz"), "steps": ["30"], "learning_rates": ["1e-3"], "batch_size": 2},
        **{"image_size": ["256", "256"], "landmark_weight": 3.0},
    ):
        distill.main(["distill"])
    after = model_lib.RetinaFace(config.Config.preset("mobilenet025"))
    arrays.load(after, tmp_path / "taught.npz")
    (found,) = detector.Detector(after).detect(PHOTOS[0])
    np.testing.assert_allclose(found.box, face.box, atol=0.08 * (face.box[3] - face.box[1]))
    distances = [np.linalg.norm(found.landmarks - wanted, axis=1).mean() for wanted in (points, face.landmarks)]
    assert distances[0] < distances[1]


@pytest.mark.long
def test_the_command_writes_weights_of_the_preset_and_goes_on_from_them(tmp_path):
    distill.FLAGS.mark_as_parsed()
    files = {"images": "examples/photos", "workdir": str(tmp_path), "output": str(tmp_path / "student.npz")}
    small = {"image_size": ["96", "128"], "batch_size": 2}
    with flagsaver.flagsaver(steps=["2", "1"], **files, **small):
        distill.main(["distill"])
    student = model_lib.RetinaFace(config.Config.preset("mobilenet025_fast"))
    arrays.load(student, tmp_path / "student.npz")
    first = arrays.read(student)
    init = str(tmp_path / "student.keras")
    # Another seed, so that a student built anew would be another.
    with flagsaver.flagsaver(steps=["1"], learning_rates=["1e-4"], init=init, seed=1, **files, **small):
        distill.main(["distill"])
    arrays.load(student, tmp_path / "student.npz")
    then, now = first["merge_P3/kernel"], arrays.read(student)["merge_P3/kernel"]
    assert 0 < np.abs(now - then).max() < 0.1 * np.abs(then).max()
