import pathlib

import numpy as np
import pytest

from keras_retinaface.mesh import face_model


@pytest.fixture(scope="module")
def face():
    return face_model.load()


def test_asset_is_small_whole_and_named_in_the_readme(face):
    assert face_model.ASSET.stat().st_size <= 4e6
    assert 1000 <= face.num_vertices <= 1200
    assert len(face.landmarks) == len(set(face.landmarks.tolist())) == 68
    assert set(np.unique(face.triangles)) == set(range(face.num_vertices))
    readme = (face_model.ASSET.parent / "README.md").read_text()
    assert f"`{face_model.CHECKSUM}`" in readme


def test_surface_is_a_disc_that_faces_the_viewer(face):
    edges = np.sort(
        np.concatenate([face.triangles[:, [0, 1]], face.triangles[:, [1, 2]], face.triangles[:, [2, 0]]]), 1
    )
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 2
    # Eyes and mouth are closed: one border, so Euler's number is 1.
    assert face.num_vertices - len(unique) + len(face.triangles) == 1
    corners = face.mean[face.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert normals[:, 2].sum() > 0 and (normals[:, 2] > 0).mean() > 0.7


def test_landmarks_are_where_their_names_say(face):
    left_eye, right_eye, nose, left_mouth, right_mouth = face.five_points(face.mean)
    assert left_eye[0] < 0 < right_eye[0] and left_mouth[0] < 0 < right_mouth[0]
    assert left_eye[1] > nose[1] > left_mouth[1]
    np.testing.assert_allclose(left_eye * [-1, 1, 1], right_eye, atol=0.01)
    # The distance between pupils of adults is about 63 mm.
    assert np.linalg.norm(left_eye - right_eye) == pytest.approx(6.3, abs=0.5)
    assert face.mean[:, 2].max() == pytest.approx(nose[2], abs=0.1)


def test_shape_is_linear(face):
    identity, expression = np.zeros(100), np.zeros(57)
    np.testing.assert_allclose(face.shape(identity, expression), face.mean)
    identity[3], expression[face.expression_names.index("jawOpen")] = 2, 0.5
    moved = face.mean + 2 * face.identity[3] + 0.5 * face.expression[face.expression_names.index("jawOpen")]
    np.testing.assert_allclose(face.shape(identity, expression), moved, atol=1e-5)
    # An open jaw moves the chin down by centimetres and leaves the brows alone.
    chin, brow = face.landmarks[8], face.landmarks[19]
    assert (moved - face.mean)[chin, 1] < -1 and abs((moved - face.shape(identity, 0 * expression))[brow, 1]) < 0.05


def test_samples_follow_the_seed_and_the_palette(face):
    draws = [
        (face.sample_shapes(rng, 50), face.sample_colours(rng, 50)) for rng in map(np.random.default_rng, (1, 1, 2))
    ]
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    np.testing.assert_array_equal(draws[0][1], draws[1][1])
    assert np.abs(draws[0][0] - draws[2][0]).max() > 0.1
    colours = draws[0][1]
    assert colours.dtype == np.float32 and colours.min() >= 0 and colours.max() <= 1
    is_lip = face.regions["lip"] > 0.9
    is_plain = sum(face.regions.values()) < 0.05
    # Lips are redder than the skin of the same face.
    redness = [colours[:, part, 0].mean(1) / colours[:, part, 1].mean(1) for part in (is_lip, is_plain)]
    assert (redness[0] > redness[1]).mean() > 0.95


def test_levels_halve_and_interpolate(face):
    assert len(face.levels) == face_model.NUM_LEVELS + 1
    points = face.mean
    for level, coarser in zip(face.levels, face.levels[1:]):
        assert level.down.shape == (coarser.laplacian.shape[0], level.laplacian.shape[0])
        assert coarser.laplacian.shape[0] == pytest.approx(level.laplacian.shape[0] / 2, abs=1)
        np.testing.assert_allclose(np.asarray(level.up.sum(1)).ravel(), 1, atol=1e-5)
        # Down selects vertices, and up brings those back unchanged and the others near to where they were.
        coarse = level.down @ points
        np.testing.assert_allclose(level.down @ (level.up @ coarse), coarse, atol=1e-4)
        assert np.linalg.norm(level.up @ coarse - points, axis=1).mean() < 0.35
        points = coarse


def test_laplacians_are_normalised(face):
    for level in face.levels[1:]:
        values = np.linalg.eigvalsh(level.laplacian.toarray().astype(np.float64))
        assert values.min() == pytest.approx(0, abs=1e-5) and 1 < values.max() <= 2
        assert (values < 1e-5).sum() == 1


def test_save_and_load_are_inverse(face, tmp_path):
    path = tmp_path / "face.npz"
    face_model.save(face, path)
    again = face_model.load(path)
    for name in ("mean", "identity", "expression", "triangles", "landmarks", "smooth_modes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(face, name))
    assert again.expression_names == face.expression_names
    for one, other in zip(again.levels, face.levels):
        assert (one.laplacian != other.laplacian).nnz == 0
        assert one.up is None or (one.up != other.up).nnz == 0


def test_damaged_asset_is_refused(monkeypatch):
    monkeypatch.setattr(face_model, "CHECKSUM", "0" * 64)
    with pytest.raises(ValueError, match=f"expected sha256 {'0' * 64}. Received: [0-9a-f]{{64}}"):
        face_model.load()
    with pytest.raises(FileNotFoundError):
        face_model.load(pathlib.Path("nowhere.npz"))
