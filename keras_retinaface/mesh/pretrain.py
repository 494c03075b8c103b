"""Pretrains the mesh decoder as an autoencoder on faces drawn from the face model.

python -m keras_retinaface.mesh.pretrain --workdir=runs/mesh --output=keras_retinaface/assets/mesh_decoder.npz

Every epoch draws fresh faces, so no face is seen twice. The code is pulled towards the whitened principal components of
6,000 drawn faces: a linear target gives the decoder a good code to learn from the first step on. In the end the code is
scaled and shifted, with the Dense layers on both sides of it, so that the codes of drawn faces have mean 0 and variance
1: the prior that the photometric loss puts on codes.
"""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import scipy.sparse.linalg
import tensorflow as tf
from absl import app, flags, logging

from keras_retinaface import program
from keras_retinaface.mesh import decoder as decoder_module
from keras_retinaface.mesh import face_model

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/mesh", "Folder for checkpoints; an interrupted run goes on from them.")
flags.DEFINE_string("output", None, "The .npz file to write; nothing is written if missing.")
flags.DEFINE_integer("epochs", 80, "Epochs.", lower_bound=1)
flags.DEFINE_integer("faces", 4096, "Faces drawn for each epoch.", lower_bound=32)
flags.DEFINE_integer("pca_faces", 6000, "Faces drawn for the principal components.", lower_bound=129)
flags.DEFINE_integer("batch_size", 32, "Faces a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Of Adam at the start; falls to a hundredth along a half cosine.")
flags.DEFINE_integer("seed", 0, "Of weights and faces.")

# Their seeds lie apart from those of the epochs.
PCA_SEED, HELD_OUT_SEED = 10**6, 2 * 10**6
CODE_WEIGHT = 0.02


class Autoencoder(keras.Model):
    """Encoder and decoder in a row.

    Args:
        encoder: mesh -> code.
        decoder: code -> mesh.
        **kwargs: of every model.
    """

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder

    def call(self, mesh):
        """Returns the code and the mesh that comes back from it."""
        code = self.encoder(mesh)
        return {"code": code, "mesh": self.decoder(code)}


class PrincipalComponents:
    """The best linear code, for comparison and as the target of the encoder.

    Args:
        meshes: float32 `[N, V, 6]`.
        size: length of the code.
    """

    def __init__(self, meshes: np.ndarray, size: int):
        self.mean = meshes.mean(0)
        flat = self._normalise(meshes)
        start = np.ones(min(flat.shape), np.float32)
        _, values, vectors = scipy.sparse.linalg.svds(flat, size, v0=start, return_singular_vectors="vh")
        self.deviations = values[::-1] / np.sqrt(len(flat))
        vectors = vectors[::-1].T
        # The sign is left open; the largest entry is made positive.
        self.vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(size)])

    def _normalise(self, meshes):
        scale = np.array([decoder_module.SHAPE_SCALE] * 3 + [decoder_module.COLOUR_SCALE] * 3, np.float32)
        return ((meshes - self.mean) / scale).reshape(len(meshes), -1)

    def encode(self, meshes: np.ndarray) -> np.ndarray:
        """Returns float32 `[N, size]` of unit variance."""
        return (self._normalise(meshes) @ self.vectors / self.deviations).astype(np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns float32 `[N, V, 6]`; the inverse of `encode` but for what `size` numbers cannot say."""
        scale = np.array([decoder_module.SHAPE_SCALE] * 3 + [decoder_module.COLOUR_SCALE] * 3, np.float32)
        return (codes * self.deviations @ self.vectors.T).reshape(len(codes), -1, 6).astype(
            np.float32
        ) * scale + self.mean


def draw(face: face_model.FaceModel, seed: int, count: int) -> np.ndarray:
    """Draws faces: float32 `[count, V, 6]`, centimetres and albedo."""
    rng = np.random.default_rng(seed)
    return np.concatenate([face.sample_shapes(rng, count), face.sample_colours(rng, count)], -1)


def errors(meshes: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Measures meshes against the true ones.

    Args:
        meshes: float `[N, V, 6]`.
        truth: float `[N, V, 6]`.

    Returns:
        `vertex_mm`: mean distance of vertices in millimetres, and `colour`: mean absolute difference of albedo in 0..1.
    """
    distance = np.linalg.norm(meshes[..., :3] - truth[..., :3], axis=-1)
    return {"vertex_mm": float(10 * distance.mean()), "colour": float(np.abs(meshes[..., 3:] - truth[..., 3:]).mean())}


def mesh_loss(truth, mesh):
    """Returns `[B]`: mean absolute error of vertices and colours, each in its own unit."""
    scale = tf.constant([decoder_module.SHAPE_SCALE] * 3 + [decoder_module.COLOUR_SCALE] * 3)
    return tf.reduce_mean(tf.abs(truth - mesh) / scale, (1, 2))


def standardise(encoder, decoder, meshes: np.ndarray) -> None:
    """Gives the codes of meshes mean 0 and variance 1, and leaves what comes out of the decoder as it is.

    Args:
        encoder: a `MeshEncoder`, whose last layer is changed.
        decoder: a `MeshDecoder`, whose first layer is changed.
        meshes: float32 `[N, V, 6]`.
    """
    codes = np.concatenate([encoder(part).numpy() for part in np.array_split(meshes, max(len(meshes) // 100, 1))])
    mean, deviation = codes.mean(0, dtype=np.float64), codes.std(0, dtype=np.float64)
    bias, kernel = np.asarray(decoder.dense.bias, np.float64), np.asarray(decoder.dense.kernel, np.float64)
    decoder.dense.bias.assign(bias + mean @ kernel)
    decoder.dense.kernel.assign(kernel * deviation[:, None])
    encoder.dense.kernel.assign(np.asarray(encoder.dense.kernel, np.float64) / deviation)
    encoder.dense.bias.assign((np.asarray(encoder.dense.bias, np.float64) - mean) / deviation)


def main(argv):
    """Trains, measures on held-out faces, writes the weights."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    keras.utils.set_random_seed(FLAGS.seed)
    face = face_model.load()
    logging.info("drawing %d faces for the principal components", FLAGS.pca_faces)
    drawn = draw(face, PCA_SEED, FLAGS.pca_faces)
    components = PrincipalComponents(drawn, decoder_module.CODE_SIZE)
    model = Autoencoder(decoder_module.MeshEncoder(face=face), decoder_module.MeshDecoder(face=face))
    model(np.zeros((1, face.num_vertices, 6), np.float32))
    for part in (model.encoder, model.decoder):
        part.mean.assign(components.mean)
    steps = FLAGS.epochs * (FLAGS.faces // FLAGS.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, steps, alpha=0.01)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=5.0),
        loss={"mesh": mesh_loss, "code": "mse"},
        loss_weights={"mesh": 1.0, "code": CODE_WEIGHT},
    )

    def batches():
        # Epochs are counted by the steps already taken, so that a resumed run goes on with the faces it would have had.
        epoch = int(np.asarray(model.optimizer.iterations)) // (FLAGS.faces // FLAGS.batch_size)
        meshes = draw(face, FLAGS.seed + epoch, FLAGS.faces)
        codes = components.encode(meshes)
        for start in range(0, FLAGS.faces - FLAGS.batch_size + 1, FLAGS.batch_size):
            chosen = slice(start, start + FLAGS.batch_size)
            yield meshes[chosen], {"mesh": meshes[chosen], "code": codes[chosen]}

    mesh = tf.TensorSpec((None, face.num_vertices, 6), tf.float32)
    code = tf.TensorSpec((None, decoder_module.CODE_SIZE), tf.float32)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=(mesh, {"mesh": mesh, "code": code}))
    logging.info("training %d weights for %d steps", model.count_params(), steps)
    backup = keras.callbacks.BackupAndRestore(str(pathlib.Path(FLAGS.workdir) / "backup"))
    model.fit(dataset, epochs=FLAGS.epochs, callbacks=[backup], verbose=2)
    standardise(model.encoder, model.decoder, drawn)
    held_out = draw(face, HELD_OUT_SEED, 1000)
    logging.info("held out, mean mesh: %s", errors(components.mean[None], held_out))
    logging.info("held out, principal components: %s", errors(components.decode(components.encode(held_out)), held_out))
    outputs = model.predict(held_out, batch_size=100, verbose=0)
    logging.info("held out, autoencoder: %s", errors(outputs["mesh"], held_out))
    if FLAGS.output:
        checksum = decoder_module.save_weights(FLAGS.output, model.decoder, model.encoder)
        logging.info("wrote %s, sha256 %s", FLAGS.output, checksum)


if __name__ == "__main__":
    program.run(main)
