"""How well meshes explain photos: photometric error beside the mean face's, and 68 projected points."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tqdm

from keras_retinaface.evaluation import annotation, wider_face
from keras_retinaface.geometry import mesh_code, overlap
from keras_retinaface.inference import detector as detector_lib
from keras_retinaface.media import image_file
from keras_retinaface.mesh import camera as camera_module
from keras_retinaface.mesh import graphics

with graphics.needed_for("measuring meshes"):
    from keras_retinaface.mesh import dense_loss, renderer

# Side in pixels to which a face's anchor is resampled before colours are compared, as in training.
_CROP = 56
# Overlap from which a detection is a face's.
_SAME = 0.5


def of_ground_truth(ground_truth: wider_face.GroundTruth) -> list[annotation.Annotation]:
    """Returns the faces of WIDER FACE's hard subset, which are all valid ones, as annotations without points."""
    annotations = []
    for row, name in enumerate(ground_truth.names):
        rows = slice(ground_truth.offsets[row], ground_truth.offsets[row + 1])
        boxes = ground_truth.boxes[rows][ground_truth.keep["hard"][rows]]
        annotations.append(annotation.Annotation(f"{name}.jpg", boxes, np.full((len(boxes), 5, 2), np.nan)))
    return annotations


def measure(
    detector: detector_lib.Detector,
    directory: str | os.PathLike,
    annotations: Sequence[annotation.Annotation],
    *,
    min_face: float = 0.0,
    max_pixels: int | None = None,
) -> dict:
    """Detects faces with meshes and measures those of annotated faces, at the boxes that the detector predicts.

    Args:
        detector: detector with `mesh`.
        directory: folder that the names of images start from.
        annotations: annotations of the images.
        min_face: annotated faces whose shorter side is under this many pixels are left out.
        max_pixels: as for `image_file.read`.

    Returns:
        `faces`: annotated ones; `found`: those of them that a detection overlaps by half, which all else is about.
        `photometric`: mean absolute difference of colours over the pixels that the mesh covers, 0..1;
        `photometric_mean_face`: the same of the mean face in mean colours and light, posed by the predicted points;
        `ratio` of the two; `coverage`: pixels that meshes cover over those that mean faces cover.
        Where 68 points are annotated: `nme_68`, mean distance over sqrt(width x height) of the annotated box,
        `nme_68_mean_face`, and both without the 17 points of the jaw, `nme_51` and `nme_51_mean_face`.
    """
    num_faces, colours, points = 0, [], []
    for entry in tqdm.tqdm(annotations, unit="image", disable=not sys.stderr.isatty()):
        is_wanted = np.min(entry.boxes[:, 2:] - entry.boxes[:, :2], axis=-1) >= min_face
        if not is_wanted.any():
            continue
        num_faces += int(is_wanted.sum())
        image = image_file.read(os.path.join(directory, entry.image), max_pixels=max_pixels)
        faces = detector.detect(image)
        pairs = _match(entry, np.flatnonzero(is_wanted), faces)
        if not pairs:
            continue
        found = [face for _, face in pairs]
        colours.append(photometric(image, found))
        if entry.all_landmarks is not None:
            points.append(_point_errors(entry, pairs))
    numbers = {"faces": num_faces, "found": sum(len(part) for part in colours)}
    if colours:
        ours, mean, covered, mean_covered = np.concatenate(colours).T
        numbers.update(
            photometric=float(ours.mean()),
            photometric_mean_face=float(mean.mean()),
            ratio=float(ours.mean() / mean.mean()),
            coverage=float(covered.sum() / mean_covered.sum()),
        )
    if points:
        errors = np.concatenate(points)  # [N, 2, 68]
        for name, part in (("nme_68", errors), ("nme_51", errors[..., 17:])):
            numbers[name], numbers[f"{name}_mean_face"] = (float(value) for value in np.nanmean(part, (0, 2)))
    return numbers


def photometric(image: np.ndarray, faces: Sequence[detector_lib.Face]) -> np.ndarray:
    """Compares the meshes of faces, and the mean face at the same predicted boxes, with an image.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        faces: faces with meshes.

    Returns:
        float64 `[N, 4]`: the mean absolute difference of colours, 0..1, of the mesh and of the mean face; the pixels of
        the crop that each covers.
    """
    from keras_retinaface.mesh import reconstruction

    decoder = reconstruction.decoder()
    meshes = [face.mesh for face in faces]
    frames = np.stack([mesh.frame for mesh in meshes])
    crops, valid = dense_loss.crop(image[None], tf.constant(frames), np.zeros(len(frames), np.int32), _CROP)
    start = _start(faces, frames, decoder.face)
    mean = decoder(tf.zeros((1, mesh_code.CODE_SIZE)))[0]
    camera, light = camera_module.unpack(tf.zeros((len(faces), mesh_code.CAMERA_SIZE + mesh_code.LIGHT_SIZE)), start)
    sides = (
        (np.stack([m.vertices for m in meshes]), np.stack([m.colours for m in meshes]))
        + (np.stack([m.camera for m in meshes]), np.stack([m.light for m in meshes])),
        (np.tile(mean[None, :, :3], (len(faces), 1, 1)), np.tile(mean[None, :, 3:], (len(faces), 1, 1)), camera, light),
    )
    errors, covered = [], []
    for vertices, colours, camera, light in sides:
        drawn = renderer.render(vertices, colours, decoder.face.triangles, camera, light, (_CROP, _CROP))
        mask = (drawn.mask * valid).numpy()
        difference = np.abs(drawn.image.numpy() - crops.numpy()).mean(-1, keepdims=True) * mask
        covered.append(mask.sum((1, 2, 3), dtype=np.float64))
        errors.append(difference.sum((1, 2, 3), dtype=np.float64) / np.maximum(covered[-1], 1))
    return np.stack([*errors, *covered], axis=1)


def _start(faces, frames, face_model):
    boxes = tf.constant(np.stack([face.box for face in faces]), tf.float32)
    points = tf.constant(np.stack([face.landmarks for face in faces]), tf.float32)
    return camera_module.start_camera(boxes, points, tf.constant(frames), face_model)


def _match(entry, rows, faces):
    """Pairs rows of annotated faces with the detections that overlap them most."""
    if not faces:
        return []
    found = np.stack([face.box for face in faces]).astype(np.float64)
    overlaps = overlap.iou(entry.boxes[rows], found)
    best = overlaps.argmax(axis=1)
    return [(row, faces[best[k]]) for k, row in enumerate(rows) if overlaps[k, best[k]] > _SAME]


def _point_errors(entry, pairs):
    """Returns `[N, 2, 68]`: distances over the size of the annotated box, of the meshes' points and the mean face's."""
    from keras_retinaface.mesh import reconstruction

    face_model = reconstruction.decoder().face
    faces = [face for _, face in pairs]
    frames = np.stack([face.mesh.frame for face in faces])
    mean = tf.tile(face_model.mean[face_model.landmarks][None], (len(faces), 1, 1))
    posed = camera_module.project(mean, _start(faces, frames, face_model)).numpy()
    posed = posed * (frames[:, None, 2:] - frames[:, None, :2]) + frames[:, None, :2]
    rows = [row for row, _ in pairs]
    size = np.sqrt(np.prod(entry.boxes[rows][:, 2:] - entry.boxes[rows][:, :2], axis=-1))
    truth = entry.all_landmarks[rows]
    ours = np.stack([face.mesh.landmarks for face in faces])
    return np.stack([np.linalg.norm(points - truth, axis=-1) for points in (ours, posed)], 1) / size[:, None, None]
