import keras
import numpy as np
import pytest

from keras_retinaface.mesh import decoder as decoder_module
from keras_retinaface.mesh import face_model, pretrain


@pytest.fixture(scope="module")
def face():
    return face_model.load()


@pytest.fixture(scope="module")
def networks():
    encoder = decoder_module.MeshEncoder()
    encoder.build((None, encoder.face.num_vertices, 6))
    decoder_module.load_weights(encoder, "encoder")
    return encoder, decoder_module.pretrained()


def test_asset_is_small_and_named_in_the_readme():
    assert decoder_module.ASSET.stat().st_size <= 4e6
    readme = (decoder_module.ASSET.parent / "README.md").read_text()
    assert f"`{decoder_module.CHECKSUM}`" in readme


def test_held_out_faces_come_back(face, networks):
    encoder, decoder = networks
    truth = pretrain.draw(face, pretrain.HELD_OUT_SEED, 200)
    codes = encoder(truth)
    found = pretrain.errors(decoder(codes).numpy(), truth)
    assert found["vertex_mm"] <= 1.0 and found["colour"] <= 0.02
    # What an empty code gives is far from that.
    mean = pretrain.errors(decoder(np.zeros((1, 128), np.float32)).numpy(), truth)
    assert mean["vertex_mm"] > 4 and mean["colour"] > 0.1
    # Each number of the code has unit variance and no offset, as the prior on it says.
    np.testing.assert_allclose(codes.numpy().std(0), 1, atol=0.25)
    np.testing.assert_allclose(codes.numpy().mean(0), 0, atol=0.3)


def test_zero_is_the_mean_face(face, networks):
    mesh = networks[1](np.zeros((1, 128), np.float32)).numpy()[0]
    assert 10 * np.linalg.norm(mesh[:, :3] - face.mean, axis=1).mean() < 1.5


def test_layer_order(face):
    # One weight of the Dense layer reaches the mesh through up-sampling alone when all kernels pass their input on.
    decoder = decoder_module.MeshDecoder(2, filters=(6, 6, 6, 6), order=2)
    decoder.build((None, 2))
    for part in [*decoder.convolutions, decoder.last]:
        part.kernel.assign(np.stack([np.eye(6), np.zeros((6, 6))]))
    coarse = face.levels[-1].laplacian.shape[0]
    decoder.dense.kernel.assign(np.stack([np.linspace(-1, 1, coarse * 6), np.zeros(coarse * 6)]))
    signal = np.linspace(-1, 1, coarse * 6).reshape(coarse, 6)
    for level in reversed(face.levels[:-1]):
        signal = np.maximum(level.up @ signal, 0)
    scale = [decoder_module.SHAPE_SCALE] * 3 + [decoder_module.COLOUR_SCALE] * 3
    np.testing.assert_allclose(decoder(np.array([[1.0, 0.0]], np.float32))[0], signal * scale, atol=1e-5)


def test_save_and_load_are_inverse_and_exact(tmp_path, networks):
    encoder, decoder = networks
    path = tmp_path / "weights.npz"
    decoder_module.save_weights(path, decoder, encoder)
    again = decoder_module.MeshDecoder()
    again.build((None, 128))
    decoder_module.load_weights(again, "decoder", path)
    codes = np.random.default_rng(0).standard_normal((2, 128)).astype(np.float32)
    np.testing.assert_array_equal(again(codes), decoder(codes))
    smaller = decoder_module.MeshDecoder(order=2)
    smaller.build((None, 128))
    with pytest.raises(ValueError, match=r"decoder/conv3/kernel has shape \(4, 32, 32\). Expected: \(2, 32, 32\)"):
        decoder_module.load_weights(smaller, "decoder", path)
    with pytest.raises(ValueError, match="do not fit by name: .*encoder/last/kernel|do not fit by name: "):
        decoder_module.load_weights(again, "encoder", path)


def test_damaged_asset_is_refused(monkeypatch):
    monkeypatch.setattr(decoder_module, "CHECKSUM", "0" * 64)
    with pytest.raises(ValueError, match=f"expected sha256 {'0' * 64}"):
        decoder_module.pretrained()


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_keras_round_trip(tmp_path, networks, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        inputs = keras.Input((128,))
        decoder = decoder_module.MeshDecoder(order=3)
        outputs = decoder_module.MeshEncoder(order=2)(decoder(inputs))
        model = keras.Model(inputs, outputs)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        codes = np.random.default_rng(0).standard_normal((2, 128)).astype(np.float32)
        np.testing.assert_allclose(again(codes), model(codes), atol=1e-5)
        assert again(codes).dtype == "float32"
    finally:
        keras.mixed_precision.set_global_policy("float32")
