"""Draws images of random faces of the face model, whose boxes, points and meshes are known exactly.

The renderer of `keras_retinaface.mesh` is out of reach by the rule of imports and would start TensorFlow in every
worker; `rasterize` does the same job in NumPy and OpenCV. The faces are masks with a plain head behind them: enough to
test with, to try a training, and to warm up a network, no substitute for photos.
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np
import tensorflow as tf

from data_pipeline import order, rasterize
from data_pipeline import record as record_lib
from keras_retinaface.mesh import face_model

# How `--train_images` asks for drawn images: `synthetic:N`.
PREFIX = "synthetic:"
SMALLEST, LARGEST = 8.0, 400.0
_MOST_FACES = 16
# Faces of which less shows are neither learnt nor background.
_LEAST_VISIBLE = 0.25
# Faces are drawn at this many pixels or more and then scaled down, so that small ones are smooth as in photos.
_DRAWN_SIZE = 96
# Centimetres by which a vertex may lie behind the surface at its pixel and still show.
_DEPTH_TOLERANCE = 0.6
_NO_FACE, _OCCLUDER = -1, -2


@dataclasses.dataclass(frozen=True)
class Scene:
    """An image and all that is known of it.

    Attributes:
        image: uint8 `[H, W, 3]`, RGB.
        boxes: float32 `[N, 4]`, xyxy, pixels: around all vertices of a face, clipped to the image.
        landmarks: float32 `[N, 5, 2]`, pixels; where they are, also when hidden.
        vertices: float32 `[N, V, 2]`, pixels.
        vertex_visible: bool `[N, V]`, whether a vertex shows: not behind its own face, another, an object, or outside.
        visible_share: float32 `[N]`, pixels of a face that show, over all its pixels.
    """

    image: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    vertices: np.ndarray
    vertex_visible: np.ndarray
    visible_share: np.ndarray


def draw(
    face: face_model.FaceModel,
    seed: int,
    index: int,
    image_size: tuple[int, int] = (480, 640),
    *,
    num_faces: int | None = None,
) -> Scene:
    """Draws one image; the same seed and index give the same one.

    Args:
        face: the model that faces come from.
        seed: seed of the whole set.
        index: number of the image in the set.
        image_size: (height, width), pixels.
        num_faces: faces to try to place; a random number, more small ones than large ones, if missing.

    Returns:
        The scene. It holds fewer faces than wanted where there is no room.
    """
    rng = np.random.default_rng([seed, index])
    canvas = _background(rng, image_size)
    owner = np.full(image_size, _NO_FACE, np.int32)
    places = _places(rng, image_size, num_faces)
    shapes, colours = face.sample_shapes(rng, len(places)), face.sample_colours(rng, len(places))
    drawn = []
    for number, ((x, y, size), shape, colour) in enumerate(zip(places, shapes, colours)):
        drawn.append(_draw_face(rng, face, canvas, owner, number, (x, y), size, shape, colour))
        if rng.random() < 0.3:
            _occlude(rng, canvas, owner, (x, y), size)
    noise = rng.standard_normal(canvas.shape, np.float32) * rng.uniform(0, 0.02)
    image = np.round(np.clip(canvas + noise, 0, 1) * 255).astype(np.uint8)
    return _measure(face, image, owner, drawn)


def _measure(face, image, owner, drawn):
    """Asks the finished image what of each face still shows."""
    height, width = image.shape[:2]
    vertices = np.array([points for points, _, _ in drawn], np.float32).reshape(-1, face.num_vertices, 2)
    visible = np.zeros(vertices.shape[:2], bool)
    share = np.zeros(len(drawn), np.float32)
    for number, (points, is_front, num_pixels) in enumerate(drawn):
        columns, rows = np.floor(points).astype(int).T
        is_inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        at = owner[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
        visible[number] = is_front & is_inside & (at == number)
        share[number] = np.sum(owner == number) / max(num_pixels, 1)
    boxes = np.concatenate([vertices.min(1), vertices.max(1)], 1) if len(drawn) else np.zeros((0, 4), np.float32)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    landmarks = face.five_points(vertices)
    return Scene(image, boxes.astype(np.float32), landmarks, vertices, visible, np.minimum(share, 1))


def _places(rng, image_size, num_faces):
    """Returns (x, y, size) of faces, far ones first, which hardly overlap."""
    if num_faces is None:
        num_faces = rng.integers(1, _MOST_FACES + 1)
    largest = min(LARGEST, 0.85 * min(image_size))
    places = []
    for _ in range(num_faces):
        size = np.exp(rng.uniform(np.log(SMALLEST * 1.1), np.log(largest)))
        for _ in range(10):
            # Up to a third of a face may lie outside.
            x, y = (rng.uniform(0.2 * size, side - 0.2 * size) for side in image_size[::-1])
            if all(np.hypot(x - a, y - b) > 0.42 * (size + other) for a, b, other in places):
                places.append((x, y, size))
                break
    return sorted(places, key=lambda place: place[2])


def _draw_face(rng, face, canvas, owner, number, centre, size, shape, colours):
    """Draws a face over the canvas; returns its points, whether each faces the camera, and its number of pixels."""
    pitch, yaw, roll = rng.normal(0, [0.2, 0.5, 0.2])
    rotation = _rotation(pitch, np.clip(yaw, -1.2, 1.2), roll)
    turned = (shape - shape.mean(0)) @ rotation.T
    distance = rng.uniform(40, 200)
    flat = turned[:, :2] * (distance / (distance - turned[:, 2]))[:, None] * [1, -1]
    # The drawn height of the face, not of the mean one, is the size asked for.
    flat = (flat - (flat.min(0) + flat.max(0)) / 2) / np.ptp(flat[:, 1])
    points = flat * size + centre
    corner = np.floor(points.min(0)).astype(int) - 1
    patch_size = (np.ceil(points.max(0)).astype(int) + 1 - corner)[::-1]  # height, width
    scale = max(2, int(np.ceil(_DRAWN_SIZE / size)))
    shaded = colours * _light(rng, shape @ rotation.T, face.triangles)
    fine = (points - corner) * scale
    fine_size = (int(patch_size[0]) * scale, int(patch_size[1]) * scale)
    ids = rasterize.triangle_ids(fine, -turned[:, 2], face.triangles, fine_size)
    attributes = np.concatenate([shaded, turned[:, 2:], np.ones((len(shape), 1))], 1)
    covered, values = rasterize.interpolate(ids, fine, face.triangles, attributes)
    patch = np.zeros((fine_size[0] * fine_size[1], 5), np.float32)
    patch[covered] = values
    patch = patch.reshape(*fine_size, 5)
    columns, rows = np.clip(np.floor(fine).astype(int), 0, np.array(fine_size[::-1]) - 1).T
    is_front = turned[:, 2] > patch[rows, columns, 3] - _DEPTH_TOLERANCE
    # Colours come out weighted by coverage, which is what blending wants.
    small = cv2.resize(patch[..., [0, 1, 2, 4]], (int(patch_size[1]), int(patch_size[0])), interpolation=cv2.INTER_AREA)
    _draw_head(rng, canvas, owner, centre, size, colours, roll)
    _blend(canvas, owner, small[..., :3], small[..., 3], corner, number)
    return points, is_front, np.sum(small[..., 3] > 0.5)


def _blend(canvas, owner, colours, cover, corner, number):
    height, width = owner.shape
    x, y = np.maximum(corner, 0)
    right, bottom = min(corner[0] + cover.shape[1], width), min(corner[1] + cover.shape[0], height)
    if right <= x or bottom <= y:
        return
    part = (slice(y - corner[1], bottom - corner[1]), slice(x - corner[0], right - corner[0]))
    target = canvas[y:bottom, x:right]
    target *= 1 - cover[part][..., None]
    target += colours[part]
    owner[y:bottom, x:right][cover[part] > 0.5] = number


def _draw_head(rng, canvas, owner, centre, size, colours, roll):
    """Paints hair and neck behind a face, so that its outline is not always its border with the background."""
    if rng.random() < 0.2:
        return
    mask = np.zeros(owner.shape, np.uint8)
    x, y = centre
    hair = np.clip(rng.uniform(0.02, 0.6) * np.array([1, 0.8, 0.6]) * rng.uniform(0.7, 1.3, 3), 0, 1)
    skin = 0.6 * np.median(colours, 0)
    neck = (int(x - 0.25 * size), int(y + 0.3 * size)), (int(x + 0.25 * size), int(y + 0.8 * size))
    cv2.rectangle(mask, *neck, 1, -1)
    axes = (max(int(rng.uniform(0.42, 0.6) * size), 1), max(int(rng.uniform(0.55, 0.75) * size), 1))
    lift = rng.uniform(0.05, 0.2) * size
    cv2.ellipse(mask, (int(x), int(y - lift)), axes, -np.degrees(roll), 0, 360, 2, -1)
    canvas[mask == 1] = skin
    canvas[mask == 2] = hair
    owner[mask > 0] = _NO_FACE


def _occlude(rng, canvas, owner, centre, size):
    """Puts an object of one texture over a part of a face."""
    mask = np.zeros(owner.shape, np.uint8)
    angle = rng.uniform(0, 2 * np.pi)
    middle = np.array(centre) + rng.uniform(0.25, 0.6) * size * np.array([np.cos(angle), np.sin(angle)])
    axes = np.maximum(rng.uniform(0.1, 0.45, 2) * size, 1)
    box = cv2.boxPoints((tuple(map(float, middle)), tuple(map(float, 2 * axes)), float(rng.uniform(0, 180))))
    if rng.random() < 0.5:
        cv2.fillPoly(mask, [np.round(box).astype(np.int32)], 1)
    else:
        cv2.ellipse(mask, tuple(map(int, middle)), tuple(map(int, axes)), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    canvas[mask == 1] = np.clip(rng.random(3) + 0.05 * rng.standard_normal((mask.sum(), 3)), 0, 1)
    owner[mask == 1] = _OCCLUDER


def _background(rng, image_size):
    """Paints noise of several scales, then shapes, some of them as coloured and as round as faces."""
    height, width = image_size
    canvas = np.full((height, width, 3), rng.random(3), np.float32)
    for octave in range(1, 7):
        grid = rng.uniform(-1, 1, (2**octave, 2**octave, 3)).astype(np.float32)
        canvas += rng.uniform(0, 0.4) / octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = np.ascontiguousarray(np.clip(canvas, 0, 1))
    for _ in range(rng.integers(0, 25)):
        colour = rng.random(3) if rng.random() < 0.6 else rng.uniform(0.3, 1) * np.array([0.9, 0.7, 0.6])
        colour = tuple(float(value) for value in colour)
        x, y = int(rng.integers(width)), int(rng.integers(height))
        side = rng.uniform(0.01, 0.3, 2) * min(image_size)
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(canvas, (x, y), (x + int(side[0]), y + int(side[1])), colour, -1)
        elif kind == 1:
            axes = (int(side[0] / 2) + 1, int(side[1] / 2) + 1)
            cv2.ellipse(canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            end = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.line(canvas, (x, y), end, colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    return cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 3))


def _light(rng, vertices, triangles):
    """Returns `[V, 3]`: what a white surface would show, lit by a far light and from all around."""
    corners = vertices[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack([np.bincount(triangles.T.ravel(), np.tile(faces[:, k], 3)) for k in range(3)], 1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    direction = rng.normal([0, 0.4, 1], [0.8, 0.5, 0.3])
    direction /= np.linalg.norm(direction)
    ambient = rng.uniform(0.25, 0.7) * rng.uniform(0.9, 1.1, 3)
    strength = rng.uniform(0.2, 0.8) * rng.uniform(0.85, 1.15, 3)
    return ambient + np.maximum(normals @ direction, 0)[:, None] * strength


def _rotation(pitch, yaw, roll):
    (cp, cy, cr), (sp, sy, sr) = np.cos([pitch, yaw, roll]), np.sin([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


class Source:
    """Drawn images as a source for `dataset.make_dataset`: no files, drawn anew whenever they are read.

    Attributes:
        num_records: images of all workers together.
    """

    def __init__(self, num_records: int, seed: int = 0, image_size: tuple[int, int] = (480, 640)):
        if num_records < 1:
            raise ValueError(f"`num_records` must be 1 or more. Received: num_records={num_records}")
        self.num_records = num_records
        self.bad_data = record_lib.BadData()
        self._draw = functools.partial(_encoded, face_model.load(), seed, image_size)

    def shuffled(self, seed: int, start: int, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns endless `(position, item)` pairs, every epoch in another order, after `start` items of a worker."""
        return order.endless(self.num_records, seed, start, num_workers, worker)

    def in_order(self, num_workers: int, worker: int) -> tf.data.Dataset:
        """Returns `(position, item)` pairs of a worker, once, in order."""
        return tf.data.Dataset.range(worker, self.num_records, num_workers).map(lambda index: (index, index))

    def parse(self, item: tf.Tensor) -> dict[str, tf.Tensor]:
        """Draws an image; its keys are those of `source.Source.parse`."""
        types = (tf.string, tf.string, tf.float32, tf.float32, tf.bool, tf.bool)
        values = tf.numpy_function(self._draw, [item], types, stateful=False)
        shapes = {
            "image_bytes": (),
            "image_name": (),
            "boxes": (None, 4),
            "landmarks": (None, 5, 2),
            "landmark_visible": (None, 5),
            "is_ignored": (None,),
        }
        return {name: tf.ensure_shape(value, shapes[name]) for name, value in zip(shapes, values)}


def open(name: str) -> Source:
    """Opens a set of drawn images.

    Args:
        name: `synthetic:N`, N the number of images.

    Raises:
        ValueError: if N is not a number from 1.
    """
    count = name[len(PREFIX) :]
    if not name.startswith(PREFIX) or not count.isdigit() or int(count) < 1:
        raise ValueError(f"`images` must be {PREFIX}N with N from 1. Received: {name!r}")
    return Source(int(count))


def _encoded(face, seed, image_size, index):
    scene = draw(face, seed, int(index), image_size)
    # Level 1: the file lives for a moment only.
    _, content = cv2.imencode(".png", scene.image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    num_faces = len(scene.boxes)
    return (
        content.tobytes(),
        f"synthetic_{int(index):06d}.png".encode(),
        scene.boxes,
        scene.landmarks.astype(np.float32),
        np.ones((num_faces, 5), bool),
        scene.visible_share < _LEAST_VISIBLE,
    )
