r"""Trains a dense head with its towers on cached windows of a frozen detector, by the photometric loss itself.

    python -m tools.dense_samples --images=DIR --annotations=label.txt --output=runs/dense/train.npz
    python -m tools.dense_points --model=face_landmark.tflite --images=DIR --annotations=label.txt \
        --output=runs/dense/points.npz
    python -m tools.train_dense_head --train=runs/dense/train.npz --points=runs/dense/points.npz \
        --workdir=runs/dense --output=dense_head.npz

Every level of the pyramid has a tower of its own and is trained by itself. Beside L_pixel stands a loss on 68 points,
where --points has them: colour alone leaves it open which vertex lies where. Brightness and tint of window and crop are
changed together at random. --workdir keeps what a level reached after every epoch; --init starts from a trained P4.
"""

from __future__ import annotations

import os
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from keras_retinaface import program
from keras_retinaface.layers import backbone, head, mesh_tower
from keras_retinaface.mesh import camera as camera_module
from keras_retinaface.mesh import decoder as decoder_module
from keras_retinaface.mesh import dense_loss, renderer
from keras_retinaface.weights import arrays

FLAGS = flags.FLAGS
flags.DEFINE_string("train", None, "Samples to train on, of tools.dense_samples.")
flags.DEFINE_string("held_out", None, "Samples to measure after every epoch; optional.")
flags.DEFINE_string("points", None, "68 points of the faces of --train, of tools.dense_points; optional.")
flags.DEFINE_string("workdir", None, "Folder for checkpoints.")
flags.DEFINE_string("output", None, "The .npz for the weights of all levels.")
flags.DEFINE_list("levels", ["P4", "P3", "P5"], "Levels to train, in turn.")
flags.DEFINE_list("epochs", ["5", "3", "8"], "Epochs of each.")
flags.DEFINE_string(
    "init", None, "The .npz of a trained P4 to start from; otherwise the first level starts anew, the others from it."
)
flags.DEFINE_integer("channels", 64, "Of the towers.")
flags.DEFINE_integer("batch_size", 32, "Windows a step.")
flags.DEFINE_float("learning_rate", 2e-3, "Of Adam at the start; falls to a hundredth along a half cosine.")
flags.DEFINE_integer("point_epochs", 4, "Epochs of points alone before them: quick, for nothing is rendered.")
flags.DEFINE_float("point_weight", 6.0, "Of the loss on points, in sides of the box.")
flags.DEFINE_float("code_prior", 0.003, "As `dense_code_prior`.")
flags.DEFINE_integer("most_samples", 10**6, "Samples of a level that are used at most, at random.")
flags.DEFINE_integer("seed", 0, "Of weights, order and changes of colour.")

_JAW_WEIGHT = 0.5
_MEAN = backbone.mean("mobilenet025", "torchvision")
_CAMERA_PRIOR = 0.001
_STRIDES = {"P3": 8, "P4": 16, "P5": 32}
# Left and right of the 68 points change places in a mirror image.
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36]
    + [41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)


def load(path: str) -> dict[str, np.ndarray]:
    """Reads samples."""
    with np.load(path) as file:
        samples = {name: file[name] for name in file.files}
    return samples


def select(samples: dict, rows) -> dict:
    """Takes rows of samples."""
    return {name: value[rows] for name, value in samples.items() if name != "names"}


def join_points(samples: dict, path: str | None) -> None:
    """Adds `points68` `[N, 68, 2]`, 0..1 in the anchor, and `point_weight`: the anchor's side in sides of the box."""
    count = len(samples["face"])
    samples["points68"] = np.zeros((count, 68, 2), np.float32)
    samples["point_weight"] = np.zeros(count, np.float32)
    if not path:
        return
    with np.load(path) as file:
        rows = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(file["image"], file["face"]))}
        usable, points = (file["score"] > 0.9) & (file["agree"] < 0.08), file["points"]
    for index in range(count):
        row = rows.get((int(samples["image"][index]), int(samples["face"][index])))
        if row is None or not usable[row]:
            continue
        across, down, is_flipped = samples["made"][index]
        moved = points[row] * [across, down]
        if is_flipped:
            moved = np.stack([samples["width"][index] - moved[:, 0], moved[:, 1]], 1)[MIRRORED]
        anchor, box = samples["anchor"][index], samples["box"][index]
        side = anchor[2] - anchor[0]
        samples["points68"][index] = (moved - anchor[:2]) / side
        samples["point_weight"][index] = side / np.sqrt(np.prod(box[2:] - box[:2]))


class Trainer:
    """Loss and measure of a level.

    Args:
        network: model from `mesh_tower.window_model`.
        num_slots: anchors of a location.
    """

    def __init__(self, network: keras.Model, num_slots: int):
        self.network = network
        self.num_slots = num_slots
        self.decoder = decoder_module.pretrained()
        self.face = self.decoder.face

    def head(self, batch: dict) -> tf.Tensor:
        """Returns `[N, 144]`, the numbers of the anchors that windows were cut around."""
        rows = self.network([batch["pixels"], batch["context"]])
        rows = tf.reshape(rows, (-1, self.num_slots, *head.DENSE_SHAPE))
        return tf.gather(rows, tf.cast(batch["slot"], tf.int32), batch_dims=1)

    def photometric(self, batch: dict, head_rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean L_pixel with its priors, and the mean photometric error."""
        count = tf.cast(tf.shape(head_rows)[0], tf.float32)
        total, error, _ = dense_loss.dense_loss(
            head_rows,
            batch["crops"],
            batch["valid"],
            batch["start"],
            tf.ones_like(head_rows[:, 0]),
            self.decoder,
            self.face,
            code_prior=FLAGS.code_prior,
            camera_prior=_CAMERA_PRIOR,
            light_prior=_CAMERA_PRIOR,
        )
        return total / count, error / count

    def points(self, batch: dict, head_rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean distance of points with the priors, in sides of the box, and the distance alone."""
        camera, _ = camera_module.unpack(head_rows[:, dense_loss.CODE_SIZE :], batch["start"])
        vertices = self.decoder(head_rows[:, : dense_loss.CODE_SIZE])[..., :3]
        points = camera_module.project(tf.gather(vertices, self.face.landmarks, axis=1), camera)
        distance = tf.sqrt(tf.reduce_sum(tf.square(points - batch["points68"]), -1) + 1e-8)
        # Points of the jaw are where the outline is, which is another vertex in every pose.
        weight = tf.constant([_JAW_WEIGHT] * 17 + [1.0] * 51) / (_JAW_WEIGHT * 17 + 51)
        distance = tf.reduce_sum(batch["point_weight"][:, None] * distance * weight)
        distance = tf.math.divide_no_nan(distance, tf.math.count_nonzero(batch["point_weight"], dtype=tf.float32))
        code, camera = tf.split(head_rows, (dense_loss.CODE_SIZE, head_rows.shape[1] - dense_loss.CODE_SIZE), 1)
        prior = tf.reduce_mean(tf.square(code)) * FLAGS.code_prior + tf.reduce_mean(tf.square(camera)) * _CAMERA_PRIOR
        return distance + prior, distance


def errors(decoder, head_rows, batch) -> tf.Tensor:
    """Returns `[N]`, mean absolute difference of colours over covered pixels."""
    face = decoder.face
    camera, light = camera_module.unpack(head_rows[:, dense_loss.CODE_SIZE :], batch["start"])
    mesh = decoder(head_rows[:, : dense_loss.CODE_SIZE])
    size = batch["crops"].shape[1]
    drawn = renderer.render(mesh[..., :3], mesh[..., 3:], face.triangles, camera, light, (size, size))
    mask = drawn.mask * batch["valid"]
    difference = tf.reduce_sum(
        mask * tf.reduce_mean(tf.abs(drawn.image - batch["crops"]), -1, keepdims=True), (1, 2, 3)
    )
    return tf.math.divide_no_nan(difference, tf.reduce_sum(mask, (1, 2, 3)))


def to_batch(samples: dict, rows, rng: np.random.Generator | None = None) -> dict:
    """Makes tensors of rows; with a generator, changes brightness and tint of half of them."""
    batch = {name: samples[name][rows] for name in ("slot", "start", "points68", "point_weight")}
    batch["context"] = samples["context"][rows].astype(np.float32)
    batch["valid"] = samples["valid"][rows].astype(np.float32)
    pixels, crops = samples["pixels"][rows].astype(np.float32), samples["crops"][rows].astype(np.float32) / 255
    is_inside = np.any(pixels, -1, keepdims=True)
    if rng is not None:
        gain = np.exp(rng.normal(0, 0.2, (len(rows), 1, 1, 1)) + rng.normal(0, 0.05, (len(rows), 1, 1, 3)))
        gain = np.where(rng.random((len(rows), 1, 1, 1)) < 0.6, gain, 1).astype(np.float32)
        crops = np.minimum(crops * gain, 1)
        pixels = np.minimum(pixels * gain, 255)
    pixels = np.where(is_inside, mesh_tower.PIXEL_SCALE * (pixels - np.array(_MEAN, np.float32)), 0)
    return {name: tf.constant(value) for name, value in {**batch, "pixels": pixels, "crops": crops}.items()}


def measure(trainer: Trainer, samples: dict) -> tuple[float, float]:
    """Returns the mean photometric error of samples and that of the mean face."""
    ours, mean = [], []
    for rows in np.array_split(np.arange(len(samples["face"])), -(-len(samples["face"]) // 64)):
        batch = to_batch(samples, rows)
        found = trainer.head(batch)
        ours.append(errors(trainer.decoder, found, batch))
        mean.append(errors(trainer.decoder, tf.zeros_like(found), batch))
    return float(np.concatenate(ours).mean()), float(np.concatenate(mean).mean())


def start_from(network: keras.Model, name: str, values: dict[str, np.ndarray], num_slots: int) -> None:
    """Gives a level the weights of another, whose anchors are as many strides large, or nearly.

    In strides all levels see the same: P3 has anchors of 2 and 4, P4 of 4 and 8, P5 of 8 and 16.
    """
    source = next(iter(values)).split("/")[0].split("_")[-1]
    shift = int(name[1:]) - int(source[1:])
    slots = np.clip(np.arange(num_slots) + shift, 0, num_slots - 1)
    moved = {}
    for key, value in values.items():
        if key.startswith(f"dense_{source}/"):
            parts = value.reshape(*value.shape[:-1], num_slots, -1)
            value = parts[..., slots, :].reshape(value.shape)
        moved[key.replace(f"_{source}/", f"_{name}/")] = value
    arrays.assign(network, moved, source)


def train_level(
    name: str, epochs: int, samples: dict, held_out: dict | None, start: dict[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """Trains tower and head of one level; returns their weights."""
    num_slots = int(samples["slot"].max()) + 1
    network = mesh_tower.window_model(
        FLAGS.channels, samples["context"].shape[-1], num_slots * head.DENSE_SHAPE[0], name=name
    )
    if start:
        start_from(network, name, start, num_slots)
    trainer = Trainer(network, num_slots)
    steps = len(samples["face"]) // FLAGS.batch_size
    point_steps = np.count_nonzero(samples["point_weight"]) // FLAGS.batch_size * FLAGS.point_epochs
    schedule = keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, steps * epochs + point_steps, alpha=0.01)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step(batch, has_pixels):
        with tf.GradientTape() as tape:
            rows = trainer.head(batch)
            loss, distance = trainer.points(batch, rows)
            error = tf.constant(0.0)
            if has_pixels:
                pixels, error = trainer.photometric(batch, rows)
                loss = FLAGS.point_weight * loss + pixels
        slopes = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(slopes, network.trainable_variables))
        return loss, error, distance

    path = os.path.join(FLAGS.workdir, f"{name}.npz")
    logging.info("%s: %d weights, %d samples, %d steps", name, network.count_params(), len(samples["face"]), steps)
    for epoch in range(FLAGS.point_epochs + epochs):
        has_pixels = epoch >= FLAGS.point_epochs
        rng = np.random.default_rng([FLAGS.seed, epoch])
        usable = np.flatnonzero(has_pixels | (samples["point_weight"] > 0))
        order, start, values = rng.permutation(usable), time.time(), []
        for number in range(len(usable) // FLAGS.batch_size):
            rows = np.sort(order[number * FLAGS.batch_size : (number + 1) * FLAGS.batch_size])
            values.append([float(value) for value in step(to_batch(samples, rows, rng), has_pixels)])
            if number % 50 == 49:
                means = np.mean(values[-50:], 0)
                logging.info("%s: step %d, loss %.4f, error %.4f, points %.4f", name, number + 1, *means)
        message = ""
        if has_pixels and held_out is not None and len(held_out["face"]):
            ours, mean = measure(trainer, held_out)
            message = f", held out {ours:.4f} of {mean:.4f}: ratio {ours / mean:.3f}"
        seconds = time.time() - start
        text = "%s: epoch %d, %.0f s, loss %.4f, error %.4f, points %.4f%s"
        logging.info(text, name, epoch, seconds, *np.mean(values, 0), message)
        arrays.save(network, path)
    return {key: np.asarray(value) for key, value in arrays.names(network).items()}


def main(argv):
    """Trains the levels in turn, and writes their weights."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    keras.utils.set_random_seed(FLAGS.seed)
    os.makedirs(FLAGS.workdir, exist_ok=True)
    samples = load(FLAGS.train)
    join_points(samples, FLAGS.points)
    logging.info("%d samples, %.0f %% with points", len(samples["face"]), 100 * (samples["point_weight"] > 0).mean())
    held_out = load(FLAGS.held_out) if FLAGS.held_out else None
    if held_out:
        join_points(held_out, None)
    values, start = {}, arrays.read_npz(FLAGS.init) if FLAGS.init else None
    for name, epochs in zip(FLAGS.levels, FLAGS.epochs):
        level = list(_STRIDES).index(name)
        rows = np.random.default_rng(FLAGS.seed).permutation(np.flatnonzero(samples["level"] == level))
        part = select(samples, np.sort(rows[: FLAGS.most_samples]))
        held_part = select(held_out, held_out["level"] == level) if held_out else None
        found = train_level(name, int(epochs), part, held_part, start)
        values.update(found)
        start = start or found
    if FLAGS.output:
        arrays.write_npz(FLAGS.output, values)


if __name__ == "__main__":
    flags.mark_flags_as_required(["train", "workdir"])
    program.run(main)
