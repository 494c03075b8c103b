import dataclasses

import numpy as np
import pytest

from keras_retinaface.evaluation import annotation, mesh_fit, wider_face
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file


@pytest.fixture(scope="module")
def dense_detector():
    return detector.Detector("mobilenet025_dense", mesh=True)


def test_a_mesh_is_measured_by_its_colours_and_where_it_lies(photos, dense_detector):
    image = image_file.read(photos / "tfjs_three_people.jpg")
    faces = dense_detector.detect(image)
    errors = mesh_fit.photometric(image, faces)
    assert errors.shape == (3, 4)
    # As dark as can be: the error becomes the brightness of the face.
    black = [
        dataclasses.replace(face, mesh=dataclasses.replace(face.mesh, light=0 * face.mesh.light)) for face in faces
    ]
    assert np.all(mesh_fit.photometric(image, black)[:, 0] > 2 * errors[:, 0])
    np.testing.assert_array_equal(mesh_fit.photometric(image, black)[:, 1:], errors[:, 1:])


def test_points_of_the_meshes_themselves_have_no_error(photos, dense_detector):
    image = image_file.read(photos / "astronaut.png")
    (face,) = dense_detector.detect(image)
    entry = annotation.Annotation(
        "astronaut.png", face.box[None].astype(float), face.landmarks[None], face.mesh.landmarks[None].astype(float)
    )
    numbers = mesh_fit.measure(dense_detector, photos, [entry])
    assert (numbers["faces"], numbers["found"]) == (1, 1)
    assert numbers["nme_68"] == pytest.approx(0, abs=1e-5) and numbers["nme_68_mean_face"] > 0.01
    # Ten pixels to the right are ten pixels over the box's size, for every point.
    size = np.sqrt(np.prod(face.box[2:] - face.box[:2]))
    moved = dataclasses.replace(entry, all_landmarks=entry.all_landmarks + [10, 0])
    assert mesh_fit.measure(dense_detector, photos, [moved])["nme_68"] == pytest.approx(10 / size, rel=1e-3)
    assert mesh_fit.measure(dense_detector, photos, [moved], min_face=1000) == {"faces": 0, "found": 0}


@pytest.mark.long
def test_promise_held_out_faces_have_at_most_six_tenths_of_the_mean_faces_error(shared, dense_detector):
    folder = shared / "wider_face"
    truth = wider_face.load_ground_truth(folder / "ground_truth")
    names = [name for name in truth.names if (folder / "val" / "images" / f"{name}.jpg").is_file()][::4]
    faces = mesh_fit.of_ground_truth(truth.select(names))
    numbers = mesh_fit.measure(dense_detector, folder / "val" / "images", faces, min_face=48)
    assert numbers["found"] > 0.9 * numbers["faces"] > 60
    assert numbers["ratio"] <= 0.6
    assert numbers["coverage"] > 0.9


@pytest.mark.slow
def test_promise_points_lie_closer_than_those_of_the_mean_mesh(shared, dense_detector):
    faces = []
    for part in ("testing", "training"):
        faces += annotation.read(shared / "dlib_faces" / f"{part}_with_face_landmarks.xml")
    numbers = mesh_fit.measure(dense_detector, shared / "dlib_faces", faces)
    assert numbers["found"] == 43
    assert numbers["nme_68"] < 0.9 * numbers["nme_68_mean_face"]
