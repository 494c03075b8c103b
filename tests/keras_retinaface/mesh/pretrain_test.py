import subprocess
import sys

import numpy as np
import pytest

from keras_retinaface.mesh import decoder as decoder_module
from keras_retinaface.mesh import face_model, pretrain


def test_principal_components_are_the_best_linear_code():
    face = face_model.load()
    meshes = pretrain.draw(face, 1, 60)
    components = pretrain.PrincipalComponents(meshes, 40)
    codes = components.encode(meshes)
    np.testing.assert_allclose(codes.std(0), 1, atol=1e-2)
    np.testing.assert_allclose(codes.T @ codes / 60, np.eye(40), atol=1e-2)
    fewer = pretrain.PrincipalComponents(meshes, 10)
    errors = [pretrain.errors(c.decode(c.encode(meshes)), meshes)["vertex_mm"] for c in (components, fewer)]
    assert errors[0] < errors[1] < pretrain.errors(components.mean[None], meshes)["vertex_mm"]
    # 59 directions hold 60 faces about their mean exactly.
    full = pretrain.PrincipalComponents(meshes, 59)
    np.testing.assert_allclose(full.decode(full.encode(meshes)), meshes, atol=2e-3)


def test_errors_in_millimetres_and_of_colour():
    truth = np.zeros((2, 3, 6))
    meshes = truth + [0.3, 0.4, 0, 0.1, -0.1, 0.4]
    assert pretrain.errors(meshes, truth) == {"vertex_mm": pytest.approx(5.0), "colour": pytest.approx(0.2)}


def test_loss_counts_both_in_their_units():
    truth = np.zeros((1, 2, 6), np.float32)
    mesh = truth + np.array([0.4, 0, 0, 0.18, 0, 0], np.float32)
    assert float(pretrain.mesh_loss(truth, mesh)[0]) == pytest.approx(2 / 6)


def test_standardised_codes_decode_to_the_same_meshes():
    encoder, decoder = decoder_module.MeshEncoder(order=1), decoder_module.MeshDecoder(order=1)
    encoder.build((None, encoder.face.num_vertices, 6))
    decoder.build((None, decoder_module.CODE_SIZE))
    meshes = pretrain.draw(encoder.face, 3, 40)
    before = decoder(encoder(meshes)).numpy()
    pretrain.standardise(encoder, decoder, meshes)
    codes = encoder(meshes).numpy()
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(codes.std(0), 1, atol=1e-3)
    np.testing.assert_allclose(decoder(codes), before, atol=1e-3)


@pytest.mark.long
def test_command_writes_weights_that_learned(tmp_path):
    output = tmp_path / "decoder.npz"
    command = [sys.executable, "-m", "keras_retinaface.mesh.pretrain", f"--workdir={tmp_path}", f"--output={output}"]
    small = ["--epochs=2", "--faces=128", "--pca_faces=300"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = [
        float(line.split("mesh_loss: ")[1].split()[0]) for line in done.stdout.splitlines() if "mesh_loss" in line
    ]
    assert len(losses) == 2 and losses[1] < losses[0]
    with np.load(output) as arrays:
        assert arrays["decoder/dense/kernel"].shape == (128, 71 * 32)
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
