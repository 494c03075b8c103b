r"""Teaches a lighter network to answer as a shipped one does, on photos that need no labels.

    python -m tools.distill --images=DIR --workdir=runs/fast --output=mobilenet025_fast.npz

The student has the teacher's backbone, to start with its weights too, and a narrower pyramid. First that pyramid alone
learns, then all of it. What it learns: every score of the teacher, boxes and landmarks where the teacher sees a face,
and the maps of the context modules, through linear layers that are thrown away.

Better landmarks for a network that is good enough otherwise come from points of somebody who knows them, with the
network as its own teacher of all else:

    python -m tools.distill --teacher=mobilenet025 --student=mobilenet025 --init=mobilenet025 --images=DIR \
        --annotations=points.json --steps=4000 --learning_rates=3e-4 --map_weight=0 --landmark_weight=3 \
        --workdir=runs/points --output=points.npz

Source: Distilling the Knowledge in a Neural Network (Hinton et al., 2015); for the maps FitNets (Romero et al., 2015).
"""

from __future__ import annotations

import math
import os

import keras
import tensorflow as tf
from absl import app, flags, logging

from data_pipeline import dataset as dataset_lib
from data_pipeline import image as image_module
from keras_retinaface import config as config_lib
from keras_retinaface import program
from keras_retinaface.inference import runtime
from keras_retinaface.layers import backbone
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import validation
from keras_retinaface.weights import arrays, norms

FLAGS = flags.FLAGS
flags.DEFINE_string("teacher", "mobilenet025", "A preset.")
flags.DEFINE_string(
    "student", "mobilenet025_fast", "A preset whose network is to be taught: that of the teacher, but narrower."
)
flags.DEFINE_string("images", None, "Folder of photos.")
flags.DEFINE_string(
    "annotations", None, "Faces of the photos with five points, which landmarks are then learnt from; optional."
)
flags.DEFINE_string("workdir", None, "Folder for student.keras, written every 500 steps.")
flags.DEFINE_string("output", None, "The .npz for the weights, norms folded.")
flags.DEFINE_list(
    "steps", ["2500", "4500"], "Steps of the pyramid alone, and of all layers; multiples of 500, or under it."
)
flags.DEFINE_list("learning_rates", ["2e-3", "5e-4"], "Of Adam in each part; falls to a hundredth along a half cosine.")
flags.DEFINE_string(
    "init", None, "A preset or student.keras to go on from; gives --steps and --learning_rates one number each."
)
flags.DEFINE_float("landmark_weight", 0.3, "Of landmarks; scores and boxes weigh 1.")
flags.DEFINE_float("map_weight", 1.0, "Of the maps of the context modules.")
flags.DEFINE_integer("batch_size", 4, "Photos a step.")
flags.DEFINE_list("image_size", ["640", "768"], "Height and width of what is cut from a photo, pixels.")
flags.DEFINE_integer("seed", 0, "Of weights, order and changes of the photos.")

_STEPS_PER_EPOCH = 500
_TERMS = ("scores", "boxes", "landmarks", "maps")
_SCALES = (0.75, 1.33)
_NATIVE_SCALE = (0.4, 2.0)


class Distiller(keras.Model):
    """A student beside its teacher, trained by `fit` on batches of images alone.

    Args:
        teacher: a RetinaFace.
        student: a RetinaFace with the same anchors and pyramid levels; the only one that learns.
        has_frozen_norms: whether its norms keep their statistics, as in the exported network.
        landmark_weight: weight of landmarks, beside scores and boxes of 1.
        map_weight: weight of the maps.
    """

    def __init__(
        self,
        teacher: model_lib.RetinaFace,
        student: model_lib.RetinaFace,
        *,
        has_frozen_norms: bool,
        landmark_weight: float = 0.3,
        map_weight: float = 1.0,
    ):
        super().__init__()
        self._weights_of_terms = {"scores": 1.0, "boxes": 1.0, "landmarks": landmark_weight, "maps": map_weight}
        teacher.trainable = False
        self._has_frozen_norms = has_frozen_norms
        self._teacher, self._student = _with_maps(teacher), _with_maps(student)
        self._project = [
            keras.layers.Conv2D(teacher.config.network.pyramid_channels, 1, name=f"project_{name}")
            for name in _map_names(teacher)
        ]
        self._trackers = {name: keras.metrics.Mean(name=name) for name in ("loss", *_TERMS)}

    def call(self, inputs, training=None):
        """Returns the outputs and maps of teacher and student for images `[B, H, W, 3]`, RGB 0..255."""
        wanted = self._teacher(inputs, training=False)
        found = self._student(inputs, training=training and not self._has_frozen_norms)
        maps = [project(x) for project, x in zip(self._project, found["maps"])]
        return wanted, {**found, "maps": maps}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the weighted sum of `_TERMS`; landmarks from the targets `y`, where there are any."""
        wanted, found = y_pred
        logits, taught = (rows["scores"][..., 1] - rows["scores"][..., 0] for rows in (found, wanted))
        is_face = tf.sigmoid(taught)  # [B, A]
        # The teacher's own entropy is taken off, so that zero means agreement.
        cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=is_face, logits=logits)
        cross -= tf.nn.sigmoid_cross_entropy_with_logits(labels=is_face, logits=taught)
        distances = {
            "scores": cross,
            "boxes": is_face * tf.reduce_mean(tf.abs(found["box_deltas"] - wanted["box_deltas"]), -1),
        }
        # Of a batch without faces every mean is near zero, not a quotient of two small numbers.
        num_faces = tf.reduce_sum(is_face) + tf.cast(tf.shape(is_face)[0], tf.float32)
        terms = {name: tf.reduce_sum(distance) / num_faces for name, distance in distances.items()}
        terms["landmarks"] = _landmark_term(is_face, found["landmark_deltas"], wanted["landmark_deltas"], y)
        terms["maps"] = tf.add_n(
            [
                tf.reduce_mean(tf.square(ours - theirs)) / (tf.reduce_mean(tf.square(theirs)) + 1e-6)
                for ours, theirs in zip(found["maps"], wanted["maps"])
            ]
        )
        loss = tf.add_n([self._weights_of_terms[name] * terms[name] for name in _TERMS])
        for name, value in {**terms, "loss": loss}.items():
            self._trackers[name].update_state(value)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Returns the means of the epoch so far."""
        return {name: tracker.result() for name, tracker in self._trackers.items()}

    @property
    def metrics(self):
        """The trackers, which an epoch starts anew."""
        return list(self._trackers.values())


def _landmark_term(is_face, found, wanted, targets: dict | None) -> tf.Tensor:
    """Averages distances to the teacher's landmarks or, of anchors that have targets, to these."""
    weight = tf.ones_like(is_face)
    if targets is not None:
        wanted, weight = targets["landmark_deltas"], tf.reduce_min(targets["landmark_weight"], -1)
    weight *= is_face  # [B, A]
    distances = weight * tf.reduce_mean(tf.abs(found - wanted), (-1, -2))
    return tf.reduce_sum(distances) / (tf.reduce_sum(weight) + tf.cast(tf.shape(is_face)[0], tf.float32))


def _map_names(model: model_lib.RetinaFace) -> list[str]:
    return [
        layer.name for layer in model.layers if layer.name.startswith("context_") and layer.name.endswith("_concat")
    ]


def _with_maps(model: model_lib.RetinaFace) -> keras.Model:
    maps = [model.get_layer(name).output for name in _map_names(model)]
    return keras.Model(model.input, {**model.output, "maps": maps})


def make_student(teacher: model_lib.RetinaFace, config: config_lib.Config, photos: list) -> model_lib.RetinaFace:
    """Builds a network and gives its backbone the teacher's weights, with norms that fit the photos `[H, W, 3]`."""
    norms.unfold_norms(teacher, [photo[None] for photo in photos])
    student = model_lib.RetinaFace(config)
    for layer in backbone.layers_up_to(student, "C5"):
        layer.set_weights(teacher.get_layer(layer.name).get_weights())
    return student


def make_dataset(paths: list[str], image_size: tuple[int, int], batch_size: int, mean, seed: int) -> tf.data.Dataset:
    """Cuts parts of photos without end: scaled, mirrored and brightened at random, padded with `mean`.

    Returns:
        float32 `[batch_size, *image_size, 3]`, RGB 0..255.
    """

    def cut(path, seeds):
        image, fault = image_module.decode(tf.io.read_file(path))
        message = tf.strings.join([path, ": expected a whole image. Received: ", fault])
        with tf.control_dependencies([tf.debugging.Assert(fault == "", [message])]):
            image = tf.cast(image, tf.float32)
        draw = tf.random.stateless_uniform([5], seeds)
        low, high = (math.log(scale) for scale in _SCALES)
        scale = tf.where(draw[0] < 0.5, 1.0, tf.exp(low + (high - low) * draw[1]))
        size = tf.cast(tf.round(tf.cast(tf.shape(image)[:2], tf.float32) * scale), tf.int32)
        image = tf.image.resize(image, size, antialias=True)
        image = tf.cond(draw[2] < 0.5, lambda: image[:, ::-1], lambda: image)
        image = tf.clip_by_value(image * (0.8 + 0.4 * draw[3]) + 32 * (draw[4] - 0.5), 0.0, 255.0)
        missing = tf.maximum(tf.constant(image_size) - size, 0)
        image = tf.pad(image - mean, [[0, missing[0]], [0, missing[1]], [0, 0]]) + mean
        return tf.image.stateless_random_crop(image, (*image_size, 3), seeds + 1)

    files = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths), seed=seed).repeat()
    seeds = tf.data.Dataset.random(seed=seed).batch(2, drop_remainder=True).map(lambda pair: tf.cast(pair, tf.int32))
    pictures = tf.data.Dataset.zip((files, seeds)).map(cut, num_parallel_calls=2)
    return pictures.batch(batch_size, drop_remainder=True).prefetch(2)


def make_annotated_dataset(
    config: config_lib.Config, images: str, annotations: str, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Cuts parts of annotated photos as training does, at about their own size.

    Returns:
        Batches as of `data_pipeline.dataset.make_dataset`, with targets of anchors.
    """
    config = config.replace(native_scale=_NATIVE_SCALE, assignment="paper")
    return dataset_lib.make_dataset(config, images, annotations, seed=seed, batch_size=batch_size)


def teach(distiller: Distiller, dataset: tf.data.Dataset, steps: int, learning_rate: float, save) -> None:
    """Takes the steps, and calls `save` every 500 of them.

    Raises:
        ValueError: if the steps are over 500 and not a multiple of it.
    """
    per_epoch = min(steps, _STEPS_PER_EPOCH)
    if steps % per_epoch:
        raise ValueError(f"`steps` must be multiples of {_STEPS_PER_EPOCH}, or under it. Received: {steps}")
    warmup = min(200, steps // 4)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=learning_rate, warmup_steps=warmup
    )
    distiller.compile(optimizer=keras.optimizers.Adam(schedule, global_clipnorm=5.0))
    saver = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: save())
    distiller.fit(dataset, epochs=steps // per_epoch, steps_per_epoch=per_epoch, callbacks=[saver], shuffle=False)


def main(argv):
    """Teaches both parts, and writes the weights."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if len(FLAGS.steps) != len(FLAGS.learning_rates):
        raise app.UsageError(
            f"--steps and --learning_rates must be equally many: {FLAGS.steps}, {FLAGS.learning_rates}"
        )
    keras.utils.set_random_seed(FLAGS.seed)
    os.makedirs(FLAGS.workdir, exist_ok=True)
    paths = image_file.find(FLAGS.images)
    if not paths:
        raise app.UsageError(f"--images: no images in {FLAGS.images}")
    teacher = model_lib.RetinaFace.from_preset(FLAGS.teacher)
    photos = [image_file.read(path) for path in paths[:: -(-len(paths) // 50)]]
    if FLAGS.init:
        student = runtime.load_keras(FLAGS.init)
        norms.unfold_norms(student, [photo[None] for photo in photos])
    else:
        student = make_student(teacher, config_lib.Config.preset(FLAGS.student), photos)
    height, width = (int(side) for side in FLAGS.image_size)
    mean, path = student.get_layer("subtract_mean").mean, os.path.join(FLAGS.workdir, "student.keras")
    if FLAGS.annotations:
        config = student.config.replace(image_size=(height, width))
        dataset = make_annotated_dataset(config, FLAGS.images, FLAGS.annotations, FLAGS.batch_size, FLAGS.seed)
    else:
        dataset = make_dataset(paths, (height, width), FLAGS.batch_size, mean, FLAGS.seed)
    logging.info("%d photos; a student of %d weights", len(paths), student.count_params())
    for part, (steps, rate) in enumerate(zip(FLAGS.steps, FLAGS.learning_rates)):
        has_all = part > 0 or bool(FLAGS.init)
        for layer in backbone.layers_up_to(student, "C5"):
            layer.trainable = has_all
        distiller = Distiller(
            teacher,
            student,
            has_frozen_norms=has_all,
            landmark_weight=FLAGS.landmark_weight,
            map_weight=FLAGS.map_weight,
        )
        teach(distiller, dataset, int(steps), float(rate), lambda: validation.save(student, path))
    norms.fold_norms(student)
    arrays.save(student, FLAGS.output)


if __name__ == "__main__":
    flags.mark_flags_as_required(["images", "workdir", "output"])
    program.run(main)
