"""Caches what a dense head of a frozen detector sees: windows around anchors on faces, with the pixels to compare to.

    python -m tools.dense_samples --images=DIR --annotations=label.txt --output=runs/dense/train.npz

With the detector frozen, a dense head is a function of a small window at an anchor, so that training it on cached
windows costs almost nothing. Every image is looked at in several sizes and mirrored; `--single` takes each once, as it
is, and of every face the best anchor: what detection would give.
"""

from __future__ import annotations

import os

import keras
import numpy as np
import tensorflow as tf
import tqdm
from absl import app, flags, logging

from keras_retinaface import program
from keras_retinaface.evaluation import annotation
from keras_retinaface.geometry import anchor, box, landmark, overlap
from keras_retinaface.layers import backbone, mesh_tower
from keras_retinaface.media import image_file
from keras_retinaface.mesh import camera as camera_module
from keras_retinaface.mesh import dense_loss, face_model
from keras_retinaface.network import model
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import arrays

FLAGS = flags.FLAGS
flags.DEFINE_string("detector", "mobilenet025", "Preset whose layers are frozen.")
flags.DEFINE_string("images", None, "Folder that the names in --annotations start from.")
flags.DEFINE_string("annotations", None, "RetinaFace label.txt or 300-W/dlib XML.")
flags.DEFINE_string("output", None, "The .npz to write.")
flags.DEFINE_bool("single", False, "Every image once, as it is, and the best anchor alone; for evaluation.")
flags.DEFINE_float("min_face", 28.0, "Faces whose shorter side is under this many pixels of the file are left out.")
flags.DEFINE_integer("crop", 56, "Side of the anchor crops, pixels.")
flags.DEFINE_integer("seed", 0, "Of sizes and of the choice of anchors.")

# Of what the detector sees; smaller ones are anchors of two strides.
_SMALLEST = 16.0
_LARGEST_SIDE = 1400


class Sampler:
    """Runs the detector and cuts windows.

    Args:
        detector: a RetinaFace.
        crop: side of the anchor crops, pixels.
    """

    def __init__(self, detector: model.RetinaFace, crop: int):
        self._config = detector.config
        self._crop = crop
        self._face = face_model.load()
        maps = {
            f"P{level}": detector.get_layer(f"context_P{level}_concat").output for level in self._config.anchors.levels
        }
        self._network = keras.Model(detector.input, {**detector.without_dense_head().output, **maps})
        self._mean = np.array(backbone.mean(self._config.network.backbone, self._config.network.backbone_layout))
        self._centred = detector.get_layer("subtract_mean")
        self._run = tf.function(self._outputs, input_signature=[tf.TensorSpec((1, None, None, 3), tf.float32)])

    def _outputs(self, image):
        outputs = self._network(image, training=False)
        anchors = anchor.generate(tf.shape(image)[1:3], self._config.anchors.strides, self._config.anchors.sizes)
        variances = self._config.anchors.variances
        scores = tf.sigmoid(outputs["scores"][0, :, 1] - outputs["scores"][0, :, 0])
        boxes = box.decode(outputs["box_deltas"][0], anchors, variances)
        points = landmark.decode(outputs["landmark_deltas"][0], anchors, variances[0])
        maps = {name: value[0] for name, value in outputs.items() if name.startswith("P")}
        return scores, boxes, points, anchors, maps

    def __call__(self, image: np.ndarray, faces: np.ndarray, rng: np.random.Generator, *, is_single: bool) -> dict:
        """Samples one picture; returns arrays with a row per sample, `face` being the row of `faces`, or nothing."""
        scores, boxes, points, anchors, maps = self._run(tf.cast(image[None], tf.float32))
        scores, boxes = scores.numpy(), boxes.numpy()
        likely = np.flatnonzero(scores > 0.5)
        chosen, owner = [], []
        for number, face in enumerate(faces):
            if min(face[2:] - face[:2]) < _SMALLEST or not len(likely):
                continue
            good = likely[overlap.iou(face[None], boxes[likely])[0] > 0.5]
            good = good[np.argsort(-scores[good], kind="stable")][:6]
            picks = good[:1]
            if not is_single and len(good) > 1:
                picks = np.append(picks, rng.choice(good[1:]))
            chosen.extend(picks)
            owner.extend([number] * len(picks))
        if not chosen:
            return {}
        chosen = np.array(chosen)
        anchors, boxes = tf.gather(anchors, chosen), boxes[chosen]
        points = tf.gather(points, chosen).numpy()
        crops, valid = dense_loss.crop(image[None], anchors, np.zeros(len(chosen), np.int32), self._crop)
        level, row, column, slot = _locate(chosen, image.shape[:2], self._config.anchors)
        context, pixels = [], []
        pooled = {}
        for index in range(len(chosen)):
            stride = self._config.anchors.strides[level[index]]
            if level[index] not in pooled:
                picture = mesh_tower.CellMeans(stride // mesh_tower.CELLS)(
                    self._centred(tf.cast(image[None], tf.float32))
                )
                # Zero is left to what lies outside the image.
                picture = np.clip(np.round(picture.numpy() / mesh_tower.PIXEL_SCALE + self._mean), 1, 255).astype(
                    np.uint8
                )
                pooled[level[index]] = (
                    _pad(picture[0], mesh_tower.WINDOW),
                    _pad(maps[f"P{self._config.anchors.levels[level[index]]}"].numpy(), mesh_tower.REACH),
                )
            picture, features = pooled[level[index]]
            # The padded map's row r is row r - REACH of the map.
            size = 2 * mesh_tower.REACH + 1
            context.append(features[row[index] : row[index] + size, column[index] : column[index] + size])
            # The window's middle is the location's, half a stride from its left top corner.
            margin = mesh_tower.WINDOW - mesh_tower.WINDOW // 2 + mesh_tower.CELLS // 2
            top, left = mesh_tower.CELLS * row[index] + margin, mesh_tower.CELLS * column[index] + margin
            pixels.append(picture[top : top + mesh_tower.WINDOW, left : left + mesh_tower.WINDOW])
        return {
            "face": np.array(owner, np.int32),
            "level": level.astype(np.int8),
            "slot": slot.astype(np.int8),
            "score": scores[chosen],
            "anchor": anchors.numpy(),
            "box": boxes,
            "points": points,
            "start": camera_module.start_camera(boxes, points, anchors, self._face).numpy(),
            "context": np.array(context, np.float16),
            "pixels": np.array(pixels),
            "crops": np.round(255 * crops.numpy()).astype(np.uint8),
            "valid": valid.numpy() > 0.5,
        }


def _pad(values, size):
    return np.pad(values, ((size, size), (size, size), (0, 0)))


def _locate(index, image_size, anchors):
    """Returns level, row, column and slot of anchors by their index."""
    counts, widths = [], []
    for stride in anchors.strides:
        height, width = (-(-side // stride) for side in image_size)
        counts.append(height * width * anchors.num_per_location)
        widths.append(width)
    starts = np.cumsum([0, *counts])
    level = np.searchsorted(starts, index, side="right") - 1
    place, slot = np.divmod(index - starts[level], anchors.num_per_location)
    row, column = np.divmod(place, np.array(widths)[level])
    return level, row, column, slot


def views(image: np.ndarray, faces: np.ndarray, rng: np.random.Generator):
    """Yields pictures of an image with its faces: as it is, mirrored, larger, smaller; and how they were made."""
    height, width = image.shape[:2]
    for scale, is_flipped in (
        (1.0, False),
        (1.0, True),
        (rng.uniform(1.3, 2.2), rng.random() < 0.5),
        (rng.uniform(0.4, 0.75), rng.random() < 0.5),
    ):
        scale = min(scale, _LARGEST_SIDE / max(height, width))
        size = (round(height * scale), round(width * scale))
        picture = tf.image.resize(image, size, antialias=True).numpy() if scale != 1 else image.astype(np.float32)
        moved = faces * np.tile([size[1] / width, size[0] / height], 2)
        if is_flipped:
            picture = picture[:, ::-1]
            moved = np.stack([size[1] - moved[:, 2], moved[:, 1], size[1] - moved[:, 0], moved[:, 3]], 1)
        yield (
            np.clip(np.round(picture), 0, 255).astype(np.uint8),
            moved,
            (size[1] / width, size[0] / height, is_flipped),
        )


def main(argv):
    """Reads, samples, writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    sampler = Sampler(model_lib.RetinaFace.from_preset(FLAGS.detector), FLAGS.crop)
    rng = np.random.default_rng(FLAGS.seed)
    parts, names = [], []
    for image_row, entry in enumerate(tqdm.tqdm(annotation.read(FLAGS.annotations), unit="image", disable=None)):
        names.append(entry.image)
        is_large = (
            (entry.boxes[:, 2:] - entry.boxes[:, :2]).min(-1, initial=np.inf)
            if not len(entry.boxes)
            else (np.min(entry.boxes[:, 2:] - entry.boxes[:, :2], -1) >= FLAGS.min_face)
        )
        if not np.any(is_large) or not len(entry.boxes):
            continue
        image = image_file.read(os.path.join(FLAGS.images, entry.image))
        faces = np.where(is_large[:, None], entry.boxes, 0)
        if FLAGS.single:
            pictures = [(image, faces, (1.0, 1.0, False))]
        else:
            pictures = views(image, faces, rng)
        for picture, moved, made in pictures:
            rows = sampler(picture, moved, rng, is_single=FLAGS.single)
            if rows:
                count = len(rows["face"])
                rows["image"] = np.full(count, image_row, np.int32)
                rows["made"] = np.tile(np.array(made, np.float32), (count, 1))
                rows["width"] = np.full(count, picture.shape[1], np.int32)
                parts.append(rows)
    together = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    logging.info("%d samples of %d images", len(together["face"]), len(names))
    arrays.write_npz(FLAGS.output, {**together, "names": np.array(names)})


if __name__ == "__main__":
    flags.mark_flags_as_required(["images", "annotations", "output"])
    program.run(main)
