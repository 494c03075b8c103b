"""From detections with their dense head's numbers to meshes: geometry, colours, pose, pictures and OBJ files."""

from __future__ import annotations

import dataclasses
import functools
import os

import numpy as np
import tensorflow as tf

from keras_retinaface import atomic
from keras_retinaface.mesh import camera as camera_module
from keras_retinaface.mesh import decoder as decoder_module
from keras_retinaface.mesh import graphics

# Faces are drawn this much finer than their pixels and averaged, which smooths outlines.
_FINENESS = 2
# A face that fills a large photo is drawn at most this large, pixels, and then enlarged.
_LARGEST_PICTURE = 768
_CLAY = np.array([0.72, 0.80, 0.90], np.float32)
# Position, colour, ambient: from the upper left, strong enough to show every fold.
_CLAY_LIGHT = (-30.0, 40.0, 60.0, 0.75, 0.75, 0.75, 0.25, 0.25, 0.25)


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The mesh of one face.

    Attributes:
        vertices: float32 `[V, 3]`, centimetres, in the space of the face model: +x the image's right, +y up, +z out of
            the face.
        colours: float32 `[V, 3]`, albedo, sRGB, 0..1.
        triangles: int32 `[T, 3]`, counter-clockwise seen from outside.
        points: float32 `[V, 2]`, the vertices in pixels of the image.
        landmarks: float32 `[68, 2]`, of `points` the 68 that 300-W annotates.
        camera: float32 `[7]`, see `camera.view_projection`, in the frame of `frame`.
        light: float32 `[9]`, see `renderer.render`.
        frame: float32 `[4]`, the square that the camera pictures, xyxy, pixels: the anchor.
    """

    vertices: np.ndarray
    colours: np.ndarray
    triangles: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    camera: np.ndarray
    light: np.ndarray
    frame: np.ndarray

    @property
    def pose(self) -> dict:
        """Yaw, pitch and roll in degrees, and the translation in centimetres from the camera to the face's pivot.

        A frontal face has zeros; it turns to the image's right with yaw, down with pitch and counter-clockwise with
        roll. The translation is (right, up, away), for the focal length given, in halves of the frame's side.
        """
        location, (pitch, yaw, roll), focal = self.camera[:3], np.degrees(self.camera[3:6]), self.camera[6]
        # Where the camera stands along its own axes, seen the other way round.
        translation = [-location[0], -location[1], location[2]]
        return {
            "yaw": round(float(yaw), 2),
            "pitch": round(float(pitch), 2),
            "roll": round(float(roll), 2),
            "translation": [round(float(value), 3) for value in translation],
            "focal": round(float(focal), 4),
        }

    def write_obj(self, path: str | os.PathLike) -> None:
        """Writes vertices (centimetres) with colours, and triangles, as a Wavefront OBJ file."""
        rows = np.concatenate([self.vertices, np.clip(self.colours, 0, 1)], 1)
        lines = ["v " + " ".join(f"{value:.4f}" for value in row) for row in rows]
        lines += ["f " + " ".join(str(corner + 1) for corner in corners) for corners in self.triangles.tolist()]
        with atomic.file(path) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="ascii")


@functools.lru_cache(maxsize=1)
def decoder() -> decoder_module.MeshDecoder:
    """Returns the shipped decoder, read once."""
    return decoder_module.pretrained()


def reconstruct(boxes: np.ndarray, landmarks: np.ndarray, dense: np.ndarray) -> list[Mesh]:
    """Makes meshes of detections.

    Args:
        boxes: float32 `[N, 4]`, xyxy, pixels.
        landmarks: float32 `[N, 5, 2]`, pixels.
        dense: float32 `[N, 148]`, see `decoding.decode`.

    Returns:
        One mesh a face.
    """
    if not len(boxes):
        return []
    decode = decoder()
    face = decode.face
    frames, head = np.asarray(dense[:, :4], np.float32), np.asarray(dense[:, 4:], np.float32)
    start = camera_module.start_camera(
        tf.constant(boxes, tf.float32), tf.constant(landmarks, tf.float32), tf.constant(frames), face
    )
    camera, light = camera_module.unpack(tf.constant(head[:, decoder_module.CODE_SIZE :]), start)
    mesh = decode(tf.constant(head[:, : decoder_module.CODE_SIZE]))
    points = camera_module.project(mesh[..., :3], camera).numpy()
    points = points * (frames[:, None, 2:] - frames[:, None, :2]) + frames[:, None, :2]
    mesh, camera, light = mesh.numpy(), camera.numpy(), light.numpy()
    return [
        Mesh(
            mesh[row, :, :3],
            mesh[row, :, 3:],
            face.triangles,
            points[row],
            points[row][face.landmarks],
            camera[row],
            light[row],
            frames[row],
        )
        for row in range(len(boxes))
    ]


def render(mesh: Mesh, *, is_plain: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws a mesh as it lies in its image, what is hidden left out.

    Args:
        mesh: mesh of one face.
        is_plain: whether to draw it as of clay under an even light, which shows the shape, instead of in its colours.

    Returns:
        float32 `[S, S, 3]`, RGB, 0..1, and float32 `[S, S]`, 1 where there is mesh; float32 `[4]`, the square that
        they picture, xyxy, pixels of the image, which may reach beyond it.

    Raises:
        ValueError: if tensorflow-graphics is missing; meshes can be had without it, but not drawn.
    """
    with graphics.needed_for("drawing meshes"):
        from keras_retinaface.mesh import renderer
    centre, side = (mesh.frame[:2] + mesh.frame[2:]) / 2, float(mesh.frame[2] - mesh.frame[0])
    # The mesh may reach beyond its anchor: a wider square about the same centre has a shorter focal length.
    half = float(np.max(np.abs(mesh.points - centre))) + 1
    camera, light = mesh.camera.copy(), mesh.light
    camera[6] *= 0.5 * side / half
    size = int(np.ceil(min(2 * half * _FINENESS, _LARGEST_PICTURE)))
    colours = mesh.colours
    if is_plain:
        colours, light = np.full_like(colours, 1.0) * _CLAY, np.array(_CLAY_LIGHT, np.float32)
    drawn = renderer.render(mesh.vertices[None], colours[None], mesh.triangles, camera[None], light[None], (size, size))
    square = np.concatenate([centre - half, centre + half]).astype(np.float32)
    return np.clip(drawn.image[0].numpy(), 0, 1), drawn.mask[0, ..., 0].numpy(), square
