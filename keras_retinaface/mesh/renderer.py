"""Draws coloured meshes, differentiably, on the normals and barycentrics of tensorflow-graphics."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
from tensorflow_graphics.geometry.representation.mesh import normals
from tensorflow_graphics.rendering import barycentrics, utils

from keras_retinaface.mesh import camera as camera_module
from keras_retinaface.mesh import rasterizer


class Rendering(NamedTuple):
    """A batch of rendered images.

    Attributes:
        image: float32 `[B, H, W, 3]`, black where there is no mesh, and not clipped.
        mask: float32 `[B, H, W, 1]`, 1 where there is mesh.
        position: float32 `[B, H, W, 2]`, (x, y) in pixels: where the point of the surface lies that shows at this
            pixel. That is the pixel's centre, but the gradient says how the point moves in the image.
    """

    image: tf.Tensor
    mask: tf.Tensor
    position: tf.Tensor


def render(
    vertices: tf.Tensor,
    colours: tf.Tensor,
    triangles: tf.Tensor,
    camera: tf.Tensor,
    light: tf.Tensor,
    image_size: tuple[int, int],
    *,
    backend: str | None = None,
) -> Rendering:
    """Renders a batch of meshes.

    Colours are shaded at the vertices (Lambert) and interpolated in perspective; gradients flow to vertices,
    colours, camera and light through barycentrics and shading, not through visibility.

    Args:
        vertices: float32 `[B, V, 3]`, centimetres.
        colours: float32 `[B, V, 3]`, albedo, 0..1.
        triangles: int32 `[T, 3]`, counter-clockwise seen from outside; those turned away are not drawn.
        camera: float32 `[B, 7]`, see `camera.view_projection`.
        light: float32 `[B, 9]`: position of a point light in the space of the vertices, its colour, the ambient colour.
        image_size: (height, width) in pixels.
        backend: who rasterizes, see `rasterizer.rasterize`.

    Returns:
        The images, with mask and positions.

    Source: Genova et al. (2018), arXiv 1806.06098.
    """
    height, width = image_size
    shaded = shade(vertices, colours, triangles, light)
    clip, triangles = _to_clip(vertices, triangles, camera, width / height)
    ids, is_covered = rasterizer.rasterize(clip, triangles, image_size, backend=backend)
    # From here on the batch is one long mesh in one tall image, so that nothing loops over faces.
    shift = tf.range(tf.shape(vertices)[0])[:, None, None]
    all_triangles = tf.reshape(triangles + shift * tf.shape(vertices)[1], (-1, 3))
    ids = tf.where(is_covered, ids + shift * tf.shape(triangles)[0], tf.shape(all_triangles)[0])
    clip = tf.reshape(clip, (-1, 4))
    weights = _barycentrics(clip, all_triangles, ids)[..., None]  # [B, H, W, 3, 1]
    corners = tf.gather(all_triangles, tf.where(is_covered, ids, 0))  # [B, H, W, 3]
    mask = tf.cast(is_covered, tf.float32)[..., None]
    image = mask * tf.reduce_sum(weights * tf.gather(tf.reshape(shaded, (-1, 3)), corners), -2)
    surface = tf.reduce_sum(tf.stop_gradient(weights) * tf.gather(clip, corners), -2)  # [B, H, W, 4]
    # Behind the camera nothing is drawn; a pixel without mesh gets a harmless point.
    surface = tf.where(is_covered[..., None], surface, tf.constant([0.0, 0.0, 0.0, 1.0]))
    position = (0.5 + 0.5 * surface[..., :2] / surface[..., 3:]) * tf.constant([width, height], tf.float32)
    return Rendering(image, mask, position)


def silhouette(vertices: tf.Tensor, triangles: tf.Tensor, camera: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Returns float32 `[B, H, W, 1]`: the mask of `render` alone. Arguments as there; no gradient."""
    clip, triangles = _to_clip(vertices, triangles, camera, image_size[1] / image_size[0])
    return tf.cast(rasterizer.rasterize(clip, triangles, image_size)[1], tf.float32)[..., None]


def _to_clip(vertices, triangles, camera, aspect_ratio):
    matrix = camera_module.view_projection(camera, aspect_ratio)
    # Images have row 0 at the top, clip space has y up; turning it over turns the winding around.
    clip = utils.transform_homogeneous(matrix, vertices) * tf.constant([1.0, -1.0, 1.0, 1.0])
    return clip, tf.gather(triangles, (0, 2, 1), axis=1)


def _barycentrics(clip, triangles, ids):
    """Returns `[B, H, W, 3]` in perspective; ids past the last triangle stand for the background and get thirds."""
    pixel_x, pixel_y = barycentrics.normalized_pixel_coordinates(tf.shape(ids)[2], tf.shape(ids)[1])
    matrices = barycentrics.compute_triangle_matrices(clip, triangles)
    # Whatever a real triangle gives at a pixel that it does not cover may overflow, and 0 * inf would spoil gradients.
    blank = tf.constant([[0.0, 0.0, 1 / 3]] * 3)[..., None]
    weights = barycentrics.compute_barycentric_coordinates(ids, tf.concat([matrices, blank], -1), pixel_x, pixel_y)
    return tf.transpose(weights, (1, 2, 3, 0))


def shade(vertices: tf.Tensor, colours: tf.Tensor, triangles: tf.Tensor, light: tf.Tensor) -> tf.Tensor:
    """Returns float32 `[B, V, 3]`: the colour that each vertex shows, from wherever. Arguments as for `render`.

    The reflectance of tensorflow-graphics needs a batch of known size; a test holds this equal to it.
    """
    position, strength, ambient = (part[:, None] for part in tf.split(light, 3, -1))
    normal = vertex_normals(vertices, triangles)
    to_light = tf.math.l2_normalize(position - vertices, -1)
    facing = tf.reduce_sum(to_light * normal, -1, keepdims=True)
    # Lambert without its 1 / pi: the light's colour is what a white surface facing it shows.
    return ambient * colours + strength * (colours * tf.nn.relu(facing))


def vertex_normals(vertices: tf.Tensor, triangles: tf.Tensor) -> tf.Tensor:
    """Returns float32 `[B, V, 3]`: unit normals, pointing outward, the mean of the triangles around by their area.

    The function of this name in tensorflow-graphics needs a batch of known size; a test holds the two equal.
    """
    corners = tf.gather(vertices, triangles, axis=1)  # [B, T, 3, 3]
    # Its `clockwise` is the cross product of the first two edges, which points outward here.
    faces = tf.transpose(normals.face_normals(corners, clockwise=True, normalize=False), (1, 0, 2))
    sums = [tf.math.unsorted_segment_sum(faces, triangles[:, k], vertices.shape[1]) for k in range(3)]
    return tf.math.l2_normalize(tf.transpose(tf.add_n(sums), (1, 0, 2)), -1)
