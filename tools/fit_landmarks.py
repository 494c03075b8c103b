"""Fits the landmark heads of a network to annotated photos, and nothing else: boxes and scores stay to the bit.

    python -m tools.fit_landmarks --images=WIDER_train/images --annotations=label.txt --output=fitted.npz mean.npz

A head is linear in the map that it looks at, so its best weights need no training: those that make the sum of the
distances between predicted and annotated points smallest, in sizes of the face, over the anchors that detection takes.
What it gives an average of networks, or one that was trained for its boxes, stands in docs/experiments.md.

Source: Iteratively reweighted least squares (Weiszfeld, 1937; Holland and Welsch, 1977).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from absl import app, flags, logging

from data_pipeline import record as record_lib
from keras_retinaface import config as config_lib
from keras_retinaface import program
from keras_retinaface.geometry import overlap
from keras_retinaface.inference import view
from keras_retinaface.media import image_file
from keras_retinaface.weights import arrays
from tools import command, network_source

_IMAGES = flags.DEFINE_string("images", None, "Folder of photos.", required=True)
_ANNOTATIONS = flags.DEFINE_string(
    "annotations", None, "Faces: WIDER FACE text, RetinaFace label.txt or COCO JSON.", required=True
)
_LANDMARKS = flags.DEFINE_string("landmarks", None, "A second file, whose landmarks are joined to the faces.")
_OUTPUT = flags.DEFINE_string("output", None, "The .npz to write.", required=True)
_SCALES = flags.DEFINE_list("scales", ["0.5", "1"], "Each photo is looked at this many times its size, mirrored too.")
_PRESET = flags.DEFINE_enum("preset", "mobilenet025", sorted(config_lib.PRESETS), "Network that an `.npz` is of.")

# Of a face, the anchors whose boxes detection could take: near it, the best few by score.
_MIN_OVERLAP, _MOST_ANCHORS = 0.6, 3
_LEAST_LOGIT = -3.0
_ROUNDS = 25
# Rows an anchor size must have to be fitted, for each of its inputs.
_ROWS_PER_INPUT = 20
# A distance in face sizes under which points weigh no more: half a pixel of a face of 100.
_SMALLEST = 0.005


def fit(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, start: np.ndarray, *, rounds: int = _ROUNDS
) -> np.ndarray:
    """Finds the linear map whose weighted sum of distances from five points is smallest.

    Args:
        inputs: float `[R, C]`, a last column of ones for the bias.
        targets: float `[R, 5, 2]`.
        weights: float `[R]`, positive: of distances, in face sizes a unit of the targets.
        start: float `[C, 5, 2]`, the map to begin from, which it is held to where inputs say nothing.
        rounds: solutions of weighted least squares.

    Returns:
        float64 `[C, 5, 2]`.
    """
    inputs, result = inputs.astype(np.float64), start.astype(np.float64)
    for _ in range(rounds):
        distances = np.linalg.norm(np.tensordot(inputs, result, 1) - targets, axis=-1) * weights[:, None]  # [R, 5]
        for point, distance in enumerate(distances.T):
            weighted = inputs * (weights / np.maximum(distance, _SMALLEST) * weights)[:, None]
            gram = weighted.T @ inputs
            held = 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
            result[:, point] = np.linalg.solve(gram + held, weighted.T @ targets[:, point] + held @ start[:, point])
    return result


def look(model, records: Sequence[record_lib.Record], images: str, scales: Sequence[float]):
    """Gathers what the landmark heads see of annotated faces.

    Args:
        model: a RetinaFace; each level has heads of its own.
        records: photos with faces, of which those with five landmarks count.
        images: folder of the photos.
        scales: sizes at which each is looked at.

    Returns:
        For each anchor size, from the finest level on: inputs float32 `[R, C + 1]`, targets float32 `[R, 5, 2]` as
        `landmark.encode` gives, and weights float32 `[R]`, sizes of the face a unit of the targets.

    Raises:
        ValueError: if the network has one head for all levels, or no face has five landmarks.
    """
    import keras
    import tensorflow as tf

    from keras_retinaface.geometry import anchor, box, landmark

    if model.config.network.use_shared_heads:
        raise ValueError("expected a network with a landmark head for each level. Received: one head for all levels")
    if not any(_has_points(record).any() for record in records):
        raise ValueError("expected faces with five landmarks in the annotations. Received: none")
    settings = model.config.anchors
    names = [f"landmark_P{level}" for level in settings.levels]
    seen = keras.Model(
        model.input, {**model.without_dense_head().output, **{name: model.get_layer(name).input for name in names}}
    )
    run = tf.function(seen, input_signature=[tf.TensorSpec([1, None, None, 3])], autograph=False)
    per_location = settings.num_per_location
    rows = [[] for _ in range(len(names) * per_location)]
    for image, boxes, points in _views(records, images, scales):
        outputs = run(image[None].astype(np.float32))
        anchors = anchor.generate(image.shape[:2], settings.strides, settings.sizes)
        anchors, start = anchors.numpy(), 0
        scores = np.asarray(outputs["scores"][0]) @ (-1.0, 1.0)
        likely = np.flatnonzero(scores > _LEAST_LOGIT)
        deltas = np.asarray(outputs["box_deltas"][0])[likely]
        found = box.decode(deltas, anchors[likely], settings.variances).numpy()
        chosen = [likely[_choose(found, scores[likely], face)] for face in boxes]
        faces = np.repeat(np.arange(len(boxes)), list(map(len, chosen)))
        places = np.concatenate([np.zeros(0, int), *chosen])
        sides = anchors[places, 2] - anchors[places, 0]
        targets = np.asarray(landmark.encode(points[faces], anchors[places], settings.variances[0]))
        weights = settings.variances[0] * sides / np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))[faces]
        for level, name in enumerate(names):
            maps = np.asarray(outputs[name][0])
            maps = maps.reshape(-1, maps.shape[-1])
            for size in range(per_location):
                mine = (places >= start) & (places < start + len(maps) * per_location)
                mine &= (places - start) % per_location == size
                inputs = maps[(places[mine] - start) // per_location]
                inputs = np.concatenate([inputs, np.ones((len(inputs), 1), np.float32)], axis=1)
                rows[level * per_location + size].append((inputs, targets[mine], weights[mine].astype(np.float32)))
            start += len(maps) * per_location
    return [tuple(map(np.concatenate, zip(*parts))) for parts in rows]


def refit(values: dict[str, np.ndarray], levels: Sequence[int], seen: Sequence) -> dict[str, np.ndarray]:
    """Returns weights with landmark heads fitted to what `look` gathered; sizes with few faces keep theirs.

    Args:
        values: weights by name.
        levels: the network's.
        seen: as from `look`.

    Raises:
        ValueError: if all sizes have few.
    """
    least, most = _ROWS_PER_INPUT * seen[0][0].shape[1], max(len(inputs) for inputs, _, _ in seen)
    if most < least:
        raise ValueError(f"expected {least} anchors on faces of one anchor size at least. Received: {most}")
    result, per_location = dict(values), len(seen) // len(levels)
    for index, (inputs, targets, weights) in enumerate(seen):
        level, size = levels[index // per_location], index % per_location
        names = [f"landmark_P{level}/{part}" for part in ("kernel", "bias")]
        kernel, bias = (result[name].copy() for name in names)
        columns = slice(10 * size, 10 * size + 10)
        if len(inputs) < least:
            logging.warning(
                "P%d, anchor size %d: %d anchors on faces are too few, its landmarks stay", level, size, len(inputs)
            )
            continue
        start = np.concatenate([kernel[0, 0, :, columns], bias[None, columns]]).reshape(-1, 5, 2)
        fitted = fit(inputs, targets, weights, start)
        before, after = (_error(inputs, targets, weights, line) for line in (start, fitted))
        logging.info("P%d, size %d: %d rows, error %.2f -> %.2f %%", level, size, len(inputs), before, after)
        kernel[0, 0, :, columns], bias[columns] = fitted[:-1].reshape(-1, 10), fitted[-1].reshape(10)
        result.update(zip(names, (kernel.astype(np.float32), bias.astype(np.float32))))
    return result


def _error(inputs, targets, weights, line) -> float:
    distances = np.linalg.norm(np.tensordot(inputs, line, 1) - targets, axis=-1) * weights[:, None]
    return 100 * float(distances.mean())


def _choose(found: np.ndarray, scores: np.ndarray, face: np.ndarray) -> np.ndarray:
    near = np.flatnonzero(overlap.iou(found, face[None])[:, 0] >= _MIN_OVERLAP)
    return near[np.argsort(-scores[near])[:_MOST_ANCHORS]]


def _has_points(record: record_lib.Record) -> np.ndarray:
    return record.landmark_visible.all(axis=1) & ~record.is_ignored


def _views(records, images: str, scales) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields each photo with faces at each scale, as it is and mirrored, with boxes `[N, 4]` and points `[N, 5, 2]`."""
    from tqdm import tqdm

    from keras_retinaface.geometry import landmark

    for record in tqdm(records, unit="photo", disable=None):
        is_full = _has_points(record)
        if not is_full.any():
            continue
        image = image_file.read(os.path.join(images, record.image))
        for scale in scales:
            size = tuple(max(1, round(scale * side)) for side in image.shape[:2])
            factors = np.array([size[1] / image.shape[1], size[0] / image.shape[0]], np.float32)
            whole = view.View((0, 0, image.shape[1], image.shape[0]), size, image.shape[:2])
            scaled = view.cut(image, whole)
            boxes, points = record.boxes[is_full] * np.tile(factors, 2), record.landmarks[is_full] * factors
            yield scaled, boxes, points
            boxes = np.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], axis=1)
            yield np.ascontiguousarray(scaled[:, ::-1]), boxes, landmark.mirror(points, size[1]).numpy()


def main(argv):
    """Looks at the photos, fits and writes."""
    from data_pipeline import source

    if len(argv) != 2:
        raise app.UsageError("give one network: a preset, a workdir, a .keras file or an .npz of weights")
    scales = command.numbers(_SCALES)
    if not scales or not all(0 < scale < 8 for scale in scales):
        raise app.UsageError(f"--scales must be positive numbers under 8. Received: {_SCALES.value}")

    def make():
        model = network_source.load(argv[1], _PRESET.value)
        records = source.read_records(_IMAGES.value, _ANNOTATIONS.value, _LANDMARKS.value, record_lib.BadData())
        return refit(arrays.read(model), model.config.anchors.levels, look(model, records, _IMAGES.value, scales))

    return command.write(_OUTPUT.value, make)


if __name__ == "__main__":
    program.run(main)
