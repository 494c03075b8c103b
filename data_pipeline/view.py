"""Draws training samples as the network gets them, to be looked at.

    python -m data_pipeline.view --output=DIR --images=WIDER_train/images --annotations=label.txt [--preset=...]

writes DIR/sample_000.png and so on. Each picture is a row of panels: first the sample with boxes (green; thin grey
where the face is ignored) and landmarks (one colour each, left of the image first: red, blue, yellow, magenta, cyan),
then for every pyramid level with a match its positive anchors (orange) and, as dots, the centres of ignored ones.
"""

from __future__ import annotations

import glob
import os

import cv2
import numpy as np
from absl import app, flags, logging

from keras_retinaface import atomic, output, program
from keras_retinaface import config as config_lib

_OUTPUT = flags.DEFINE_string("output", None, "Folder for the pictures.")
_IMAGES = flags.DEFINE_string("images", None, "Folder that the names in --annotations start from.")
_ANNOTATIONS = flags.DEFINE_string("annotations", None, "What training takes as --train_annotations.")
_LANDMARKS = flags.DEFINE_string("landmarks", None, "A second file whose landmarks are joined to the boxes.")
_CATEGORY = flags.DEFINE_string("category", None, "Name or id of the faces' category in COCO JSON.")
_PRESET = flags.DEFINE_enum("preset", "mobilenet025", sorted(config_lib.PRESETS), "Anchor design.")
_AUGMENTATION = flags.DEFINE_list("set", [], "Changed settings, as in --set=mosaic_probability=1,blur_probability=0.5")
_NUM = flags.DEFINE_integer("num", 8, "Samples to draw.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of order and augmentation.")
_PANEL = flags.DEFINE_integer("panel", 480, "Height of a panel, pixels.", 32)

_FACE, _IGNORED, _ANCHOR, _DOT = (0, 220, 0), (170, 170, 170), (255, 150, 0), (120, 160, 255)
_POINTS = ((255, 0, 0), (0, 80, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))


def draw(sample: dict, targets: dict, config: config_lib.Config, panel: int) -> np.ndarray:
    """Draws a sample and its targets.

    Args:
        sample: sample of one image, arrays, as `dataset.make_samples` gives.
        targets: targets of a batch of this one image, as from `target.encode`.
        config: whose anchors were matched.
        panel: height of a panel, pixels.

    Returns:
        uint8 `[panel, W, 3]`, RGB.
    """
    # Here and below, so that --help and wrong flags answer without TensorFlow.
    from keras_retinaface.geometry import anchor, matcher

    image = sample["image"]
    scale = panel / image.shape[0]
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    panels = [_draw_faces(image.copy(), sample, scale)]
    anchors = anchor.generate(config.augmentation.image_size, config.anchors.strides, config.anchors.sizes).numpy()
    state, first = targets["state"][0], 0
    for stride in config.anchors.strides:
        features = anchor.feature_size(config.augmentation.image_size, stride).numpy()
        last = first + int(features.prod()) * config.anchors.num_per_location
        level = state[first:last]
        if (level == matcher.POSITIVE).any():
            panels.append(_draw_anchors(image.copy(), anchors[first:last], level, scale, stride))
        first = last
    return np.concatenate(panels, axis=1)


def _draw_faces(image: np.ndarray, sample: dict, scale: float) -> np.ndarray:
    for box, is_ignored in zip(sample["boxes"] * scale, sample["is_ignored"]):
        _rectangle(image, box, _IGNORED if is_ignored else _FACE, 1 if is_ignored else 2)
    for points, visible in zip(sample["landmarks"] * scale, sample["landmark_visible"]):
        for point, is_visible, shade in zip(points, visible, _POINTS):
            if is_visible:
                cv2.circle(image, tuple(int(v) for v in point), 3, shade, -1, cv2.LINE_AA)
    return image


def _draw_anchors(image: np.ndarray, anchors: np.ndarray, state: np.ndarray, scale: float, stride: int) -> np.ndarray:
    from keras_retinaface.geometry import matcher

    image = (0.6 * image).astype(np.uint8)
    for box in anchors[state == matcher.IGNORED] * scale:
        cv2.circle(image, (int(box[0] + box[2]) // 2, int(box[1] + box[3]) // 2), 1, _DOT, -1)
    for box in anchors[state == matcher.POSITIVE] * scale:
        _rectangle(image, box, _ANCHOR, 1)
    text = f"stride {stride}: {int((state == matcher.POSITIVE).sum())} positive"
    cv2.putText(image, text, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def _rectangle(image: np.ndarray, box: np.ndarray, shade: tuple, width: int) -> None:
    x1, y1, x2, y2 = (int(round(float(value))) for value in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), shade, width, cv2.LINE_AA)


def _make_config() -> config_lib.Config:
    changes = dict(setting.split("=", 1) for setting in _AUGMENTATION.value)
    return config_lib.Config.preset(_PRESET.value).replace(
        **{name: config_lib.parse(name, text) for name, text in changes.items()}
    )


def _path(index: int) -> str:
    return os.path.join(_OUTPUT.value, f"sample_{index:03d}.png")


def _find_images() -> list[str]:
    """Returns the files that may be read under a name that this program writes, and those that name them."""
    named = [path for path in (_ANNOTATIONS.value, _LANDMARKS.value) if path]  # drawn images have none
    if not _IMAGES.value or not os.path.isdir(_IMAGES.value):
        return named
    return named + glob.glob(os.path.join(glob.escape(_IMAGES.value), "**", "*"), recursive=True)


def main(argv):
    """Draws the samples that the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    is_drawn = (_IMAGES.value or "").startswith("synthetic:")
    for flag in (_OUTPUT,) if is_drawn else (_OUTPUT, _ANNOTATIONS):
        if not flag.value:
            raise app.UsageError(f"--{flag.name} must be given")
    import tensorflow as tf

    try:
        _draw_samples(_make_config())
    except (ValueError, OSError, tf.errors.OpError) as error:
        logging.error("%s", error)
        return 1
    return 0


def _draw_samples(config: config_lib.Config) -> None:
    import tensorflow as tf

    from data_pipeline import dataset, source, target

    opened = source.open(_IMAGES.value, _ANNOTATIONS.value, landmarks=_LANDMARKS.value, category=_CATEGORY.value)
    output.make_folder(_OUTPUT.value, _OUTPUT.name)
    originals = output.Originals(_find_images())
    for index in range(_NUM.value):
        originals.check(_path(index), _OUTPUT.name)
    samples = dataset.make_samples(config, opened, seed=_SEED.value).take(_NUM.value)
    for index, sample in enumerate(samples):
        batch = {key: tensor[None] for key, tensor in sample.items()}
        targets = target.encode(batch, config.augmentation.image_size, config.anchors)
        sample, targets = tf.nest.map_structure(lambda tensor: tensor.numpy(), (sample, targets))
        path = _path(index)
        with atomic.file(path) as partial:
            if not cv2.imwrite(str(partial), draw(sample, targets, config, _PANEL.value)[..., ::-1]):
                raise OSError(f"{path} cannot be written")
        logging.info("%s: %s", path, sample["image_name"].decode())


if __name__ == "__main__":
    program.run(main)
