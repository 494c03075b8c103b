"""Camera and light of a mesh: what the 7 and 9 numbers mean, and the camera that five points suggest.

Needs no tensorflow-graphics, so that meshes can be had without it; tests hold it equal to that.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_retinaface.geometry import mesh_code
from keras_retinaface.mesh import face_model

CAMERA_SIZE, LIGHT_SIZE = mesh_code.CAMERA_SIZE, mesh_code.LIGHT_SIZE
NEAR, FAR = 1.0, 1000.0
# Centimetres from the camera to the face that a focal length of `FOCAL` starts from: portrait distance.
DISTANCE = 60.0
# Half the crop's height over the focal length; 6 is a field of view of 19 degrees.
FOCAL = 6.0
# The point of the face model that pose turns about, between the ears: near the middle of the mesh.
PIVOT = (0.0, 0.0, 6.0)
# A light above the viewer's left shoulder, over half its strength as ambient light.
LIGHT = (-20.0, 30.0, 60.0, 0.45, 0.45, 0.45, 0.6, 0.6, 0.6)


def view_projection(camera: tf.Tensor, aspect_ratio: float = 1.0) -> tf.Tensor:
    """Builds the matrix from the face model's space to clip space.

    A point is moved by `-PIVOT`, turned by the pose, and moved by minus the location, which is thus given along the
    camera's own axes: `(0, 0, d)` looks straight at the pivot from `d` centimetres, whatever the pose.

    Args:
        camera: float32 `[..., 7]`: location (3), centimetres; pose (3), Euler angles about x, y, z, radians, applied in
            this order; focal length, in halves of the image's height.
        aspect_ratio: width over height of the image.

    Returns:
        float32 `[..., 4, 4]`. Clip space has y up; `renderer` turns images over.
    """
    location, pose, focal = tf.split(camera, (3, 3, 1), -1)
    rotation = _rotation(pose)
    pivot = tf.constant(PIVOT)[:, None]
    moved = -tf.matmul(rotation, tf.broadcast_to(pivot, tf.concat([tf.shape(rotation)[:-2], (3, 1)], 0)))
    moved -= location[..., None]
    view = tf.concat([rotation, moved], -1)  # [..., 3, 4]
    bottom = tf.broadcast_to(tf.constant([[0.0, 0.0, 0.0, 1.0]]), tf.concat([tf.shape(view)[:-2], (1, 4)], 0))
    view = tf.concat([view, bottom], -2)
    return tf.matmul(_perspective(focal, aspect_ratio), view)


def project(vertices: tf.Tensor, camera: tf.Tensor, aspect_ratio: float = 1.0) -> tf.Tensor:
    """Projects points of the face model's space into the image.

    Args:
        vertices: float32 `[..., V, 3]`, centimetres.
        camera: float32 `[..., 7]`.
        aspect_ratio: width over height of the image.

    Returns:
        float32 `[..., V, 2]`: (x, y) from the left top corner, 0..1 inside the image.
    """
    matrix = view_projection(camera, aspect_ratio)
    homogeneous = tf.concat([vertices, tf.ones_like(vertices[..., :1])], -1)
    clip = tf.matmul(homogeneous, matrix, transpose_b=True)
    ndc = clip[..., :2] / clip[..., 3:]
    return 0.5 + ndc * tf.constant([0.5, -0.5])


def from_five_points(points: tf.Tensor, model_points: np.ndarray) -> tf.Tensor:
    """Guesses the camera under which the five points of a face model fall on the given ones.

    Weak perspective in closed form: the affine map from model to image by least squares, its rows made orthonormal;
    `DISTANCE` is then stretched or shrunk so that the size fits at focal length `FOCAL`. Depth is only told by the nose
    tip, so the map's depth column is held towards frontal by a small weight.

    Args:
        points: float32 `[..., 5, 2]`, (x, y), 0..1 in the image as `project` gives them.
        model_points: `[5, 3]`, the five points of the mean face, centimetres.

    Returns:
        float32 `[..., 7]`. Without gradient: it is where regression starts from.
    """
    image = tf.stop_gradient(tf.cast(points, tf.float32) - 0.5) * tf.constant([2.0, -2.0])
    model = np.asarray(model_points, np.float64) - PIVOT
    centre = model.mean(0)
    # A ridge in centimetres squared: five points, of which one leaves the plane of the others by about 3 cm.
    gram = (model - centre).T @ (model - centre) + np.diag([0.0, 0.0, 2.0])
    solve = tf.constant(np.linalg.solve(gram, (model - centre).T), tf.float32)  # [3, 5]
    middle = tf.reduce_mean(image, -2, keepdims=True)
    affine = tf.einsum("mk,...kc->...cm", solve, image - middle)  # [..., 2, 3]
    first, second = affine[..., 0, :], affine[..., 1, :]
    size_first, size_second = tf.norm(first, axis=-1, keepdims=True), tf.norm(second, axis=-1, keepdims=True)
    first, second = first / tf.maximum(size_first, 1e-6), second / tf.maximum(size_second, 1e-6)
    # The pair of orthonormal rows nearest to two unit rows lies evenly about their bisector.
    along, across = _unit(first + second), _unit(first - second)
    root = 0.5**0.5
    first, second = root * (along + across), root * (along - across)
    rotation = tf.stack([first, second, tf.linalg.cross(first, second)], -2)
    scale = tf.maximum((size_first + size_second) / 2, 1e-4)
    distance = FOCAL / scale
    shift = middle[..., 0, :] - scale * tf.einsum(
        "...cm,m->...c", rotation[..., :2, :], tf.constant(centre, tf.float32)
    )
    depth = tf.einsum("...m,m->...", rotation[..., 2, :], tf.constant(centre, tf.float32))[..., None]
    location = tf.concat([-shift / scale, distance + depth], -1)
    return tf.concat([location, _euler(rotation), tf.fill(tf.shape(scale), FOCAL)], -1)


def from_box(centre: tf.Tensor, extent: tf.Tensor, mean: np.ndarray) -> tf.Tensor:
    """Finds the camera that looks straight at the mean face and makes its outline fill a box.

    Args:
        centre: float32 `[..., 2]`, of the box, (x, y), 0..1 in the image.
        extent: float32 `[..., 2]`, its width and height, 1 for the whole image.
        mean: `[V, 3]`, the mean face, centimetres.

    Returns:
        float32 `[..., 7]`; where the box has other proportions than the face, both have the same area.
    """
    low, high = np.min(mean[:, :2], 0), np.max(mean[:, :2], 0)
    middle = tf.constant((low + high) / 2 - PIVOT[:2], tf.float32)
    # Half images for a centimetre; the outline lies at about the pivot's depth.
    scale = 2 * tf.sqrt(tf.reduce_prod(extent, -1, keepdims=True) / float(np.prod(high - low)))
    shift = (centre - 0.5) * tf.constant([2.0, -2.0]) / scale
    location = tf.concat([middle - shift, FOCAL / scale], -1)
    return tf.concat([location, tf.zeros_like(location), tf.fill(tf.shape(scale), FOCAL)], -1)


def start_camera(boxes: tf.Tensor, points: tf.Tensor, crop_boxes: tf.Tensor, face: face_model.FaceModel) -> tf.Tensor:
    """Finds the camera that puts the mean face on a predicted face, in the frame of a crop.

    Args:
        boxes: float32 `[N, 4]`, predicted, xyxy, pixels.
        points: float32 `[N, 5, 2]`, predicted, pixels.
        crop_boxes: float32 `[N, 4]`, squares, xyxy, pixels.
        face: the face model whose mean is put there.

    Returns:
        float32 `[N, 7]`, without gradient: from the points; where the mean face would then not lie about on the box
        (centres apart by more than a third of the side, or sizes by more than a factor of 1.7), looking straight from
        where it fills the box.
    """
    origin, side = crop_boxes[:, None, :2], crop_boxes[:, None, 2:] - crop_boxes[:, None, :2]
    by_points = from_five_points((points - origin) / side, face.five_points(face.mean))
    corners = (tf.reshape(boxes, (-1, 2, 2)) - origin) / side
    middle, extent = tf.reduce_mean(corners, 1), tf.maximum(corners[:, 1] - corners[:, 0], 1e-3)
    by_box = from_box(middle, extent, face.mean)
    mean = tf.broadcast_to(tf.constant(face.mean), tf.concat([tf.shape(boxes)[:1], face.mean.shape], 0))
    projected = project(mean, by_points)
    low, high = tf.reduce_min(projected, 1), tf.reduce_max(projected, 1)
    is_near = tf.reduce_all(tf.abs((low + high) / 2 - middle) < extent / 3, -1)
    ratio = tf.sqrt(tf.reduce_prod(high - low, -1) / tf.reduce_prod(extent, -1))
    # A comparison with what is not a number is false, too.
    is_usable = is_near & (ratio > 1 / 1.7) & (ratio < 1.7)
    return tf.stop_gradient(tf.where(is_usable[:, None], by_points, by_box))


def unpack(raw: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Turns the head's 16 raw numbers into camera and light; zeros leave `start` and `LIGHT` as they are.

    Steps are scaled so that one unit of raw output means a similar change of the image: location moves by 5 % of the
    distance, angles by a quarter radian, the light by 20 centimetres. Positive numbers go through an exponential.

    Args:
        raw: float32 `[..., 16]`: camera (7), light (9).
        start: float32 `[..., 7]`, the camera to start from.

    Returns:
        float32 `[..., 7]` camera, and float32 `[..., 9]`: position (3) of the point light in the face model's space,
        centimetres; its colour (3); the ambient colour (3).
    """
    location, pose, focal = tf.split(start, (3, 3, 1), -1)
    distance = location[..., 2:]
    # Sideways a unit is 5 % of the image's half height, as far as it is seen from.
    sideways = location[..., :2] + 0.05 * distance / focal * raw[..., :2]
    camera = [
        sideways,
        distance * tf.exp(0.05 * _bounded(raw[..., 2:3], 20.0)),
        pose + 0.25 * raw[..., 3:6],
        focal * tf.exp(0.05 * _bounded(raw[..., 6:7], 10.0)),
    ]
    first = tf.constant(LIGHT)
    light = [
        first[:3] + 20.0 * raw[..., 7:10],
        first[3:] * tf.exp(0.25 * _bounded(raw[..., 10:16], 8.0)),
    ]
    return tf.concat(camera, -1), tf.concat(light, -1)


def _bounded(value, limit):
    """Stays near the identity for small values and inside +-limit for any, so that no exponential overflows."""
    return limit * tf.tanh(value / limit)


def _unit(vector):
    return vector / tf.maximum(tf.norm(vector, axis=-1, keepdims=True), 1e-6)


def _rotation(angles):
    """Returns `[..., 3, 3]`, `Rz Ry Rx` of the angles about x, y, z; the inverse of `_euler`."""
    (sx, sy, sz), (cx, cy, cz) = (tf.unstack(of(angles), axis=-1) for of in (tf.sin, tf.cos))
    rows = (
        (cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz),
        (cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz),
        (-sy, sx * cy, cx * cy),
    )
    return tf.stack([tf.stack(row, -1) for row in rows], -2)


def _perspective(focal, aspect_ratio):
    """Returns `[..., 4, 4]`, from a right-handed camera's space to clip space; `focal` is `[..., 1]`."""
    focal = focal[..., 0]
    zero, one = tf.zeros_like(focal), tf.ones_like(focal)
    scale, shift = (FAR + NEAR) / (NEAR - FAR), 2 * FAR * NEAR / (NEAR - FAR)
    rows = (
        (focal / aspect_ratio, zero, zero, zero),
        (zero, focal, zero, zero),
        (zero, zero, scale * one, shift * one),
        (zero, zero, -one, zero),
    )
    return tf.stack([tf.stack(row, -1) for row in rows], -2)


def _euler(rotation):
    """Returns `[..., 3]`, the angles about x, y, z whose rotation `Rz Ry Rx` this is."""
    about_y = tf.asin(tf.clip_by_value(-rotation[..., 2, 0], -1, 1))
    about_x = tf.atan2(rotation[..., 2, 1], rotation[..., 2, 2])
    about_z = tf.atan2(rotation[..., 1, 0], rotation[..., 0, 0])
    return tf.stack([about_x, about_y, about_z], -1)
