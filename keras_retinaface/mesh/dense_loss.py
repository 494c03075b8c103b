"""L_pixel: how far the rendered face is from the image inside an anchor. Pure functions on the dense head's numbers.

`Photometric` applies them to a detector's outputs: chooses anchors, crops them, and places the mean face on each.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor, box, landmark, matcher, mesh_code
from keras_retinaface.mesh import camera as camera_module
from keras_retinaface.mesh import decoder as decoder_module
from keras_retinaface.mesh import face_model, renderer

CODE_SIZE = decoder_module.CODE_SIZE
# What a pixel of the mean face costs that the mesh leaves uncovered, in mean errors of the covered ones.
UNCOVERED_COST = 1.25
HEAD_SIZE = mesh_code.SIZE


def dense_loss(
    head: tf.Tensor,
    crops: tf.Tensor,
    valid: tf.Tensor,
    start: tf.Tensor,
    weight: tf.Tensor,
    decoder: Callable[[tf.Tensor], tf.Tensor],
    face: face_model.FaceModel,
    *,
    code_prior: float = 0.01,
    camera_prior: float = 0.01,
    light_prior: float = 0.01,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Sums the photometric loss of faces, with the priors that keep it from cheating.

    The paper gives `1 / (W H) sum |R(D(P_ST), P_cam, P_ill) - I|_1` over an anchor's crop. What it leaves open is
    settled as follows; each point that is a number is an argument or a field of `config.Loss`.

    - Which anchors: positive ones whose face is at least `dense_min_face` pixels on its shorter side; of more than
      `dense_max_faces` in a batch, as many at random (`choose_anchors`).
    - The crop: the anchor's square, resampled to `dense_crop` pixels a side, RGB in 0..1, sRGB taken as linear
      (`crop`). What lies outside the image is not compared.
    - Background: only pixels that the mesh covers are compared, as the mesh has nothing to say of others. Their sum of
      mean absolute channel differences is divided by the area of the mean face at the starting camera, not by the
      number of covered pixels, and every pixel of that area which the mesh leaves uncovered costs `UNCOVERED_COST`
      times the mean error of the covered ones: shrinking or turning away does not pay, yet the outline gives up pixels
      that the face explains worse than that. (A fixed cost would pin a well-fitting mesh to the mean face's outline.)
    - The outline: rasterization gives gradients inside the mesh only, and with these alone the mesh would grow or
      shrink whatever it costs. So the gradient of both sums by the motion of the outline is added (`outline_motion`).
    - Where regression starts: a head output of zero is the mean face in mean colours, lit by `camera.LIGHT`, under the
      camera that puts it on the predicted five points, or on the predicted box where the points contradict the box
      (`camera.start_camera`). Predictions are taken without gradient: L_box and L_pts alone move them.
    - Units of the head: `camera.unpack`; the code as it is, for codes of drawn faces have unit variance (`pretrain`).
    - Priors: mean squares of the 128, 7 and 9 head numbers, times `code_prior`, `camera_prior` and `light_prior`.
      For the code that is the logarithm of its normal prior.
    - The decoder is frozen; only the head and what lies under it learns.
    - Warm-up: `config.Loss.dense_warmup` steps over which the whole loss rises linearly from nothing.

    Args:
        head: float32 `[N, 144]`: code (128), camera (7), light (9).
        crops: float32 `[N, S, S, 3]`, RGB, 0..1.
        valid: float32 `[N, S, S, 1]`, 1 inside the image.
        start: float32 `[N, 7]`, camera that a zero head stands for.
        weight: float32 `[N]`, 1 for a face, 0 for padding, which then has no gradient either.
        decoder: code `[N, 128]` -> float32 `[N, V, 6]`, see `decoder.MeshDecoder`.
        face: the face model of the decoder.
        code_prior: see above.
        camera_prior: see above.
        light_prior: see above.

    Returns:
        The sum of the loss over faces, the sum of its photometric part alone (mean absolute difference over covered
        pixels), and the number of faces; float32 scalars.
    """
    # Padding renders the mean face, which is finite whatever stands in the row.
    head = tf.where(weight[:, None] > 0, tf.cast(head, tf.float32), 0.0)
    code, raw = head[:, :CODE_SIZE], head[:, CODE_SIZE:]
    camera, light = camera_module.unpack(raw, start)
    mesh = decoder(code)
    vertices = mesh[..., :3]
    size = crops.shape[1]
    drawn = renderer.render(vertices, mesh[..., 3:], face.triangles, camera, light, (size, size))
    wanted = _mean_face_mask(face, start, size)
    difference = tf.reduce_mean(tf.abs(drawn.image - crops), -1, keepdims=True) * drawn.mask * valid
    error = tf.math.divide_no_nan(tf.reduce_sum(difference, (1, 2, 3)), tf.reduce_sum(drawn.mask * valid, (1, 2, 3)))
    cost = UNCOVERED_COST * tf.stop_gradient(error)[:, None, None, None] * wanted * valid
    total = tf.reduce_sum(difference + cost * (1 - drawn.mask), (1, 2, 3))
    motion = outline_motion(drawn.mask, difference, cost, drawn.position)
    total += motion - tf.stop_gradient(motion)
    # A face of which the crop shows nothing has an area of one pixel, so that nothing is divided by zero.
    photometric = total / tf.maximum(tf.reduce_sum(wanted * valid, (1, 2, 3)), 1.0)
    prior = (
        code_prior * tf.reduce_mean(tf.square(code), -1)
        + camera_prior * tf.reduce_mean(tf.square(raw[:, : camera_module.CAMERA_SIZE]), -1)
        + light_prior * tf.reduce_mean(tf.square(raw[:, camera_module.CAMERA_SIZE :]), -1)
    )
    return (
        tf.reduce_sum(weight * (photometric + prior)),
        tf.stop_gradient(tf.reduce_sum(weight * error)),
        tf.reduce_sum(weight),
    )


def outline_motion(mask: tf.Tensor, inside: tf.Tensor, outside: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Makes a number whose gradient is what the motion of a mesh's outline adds to a sum over pixels.

    Where the outline moves outward by a pixel, that pixel's cost changes from `outside` to `inside` (Reynolds'
    transport theorem, with the sides of pixels as the outline). What leaves or enters at the image's border is not an
    outline.

    Args:
        mask: float32 `[N, H, W, 1]`, 1 where there is mesh.
        inside: float32 `[N, H, W, 1]`, what a pixel costs that is covered.
        outside: float32 `[N, H, W, 1]`, what it costs when uncovered.
        position: float32 `[N, H, W, 2]`, (x, y) in pixels, of the surface that shows, see `renderer.Rendering`.

    Returns:
        float32 `[N]`. Only its gradient by `position` means something.
    """
    mask, inside, outside = (tf.stop_gradient(value[..., 0]) for value in (mask, inside, outside))
    total = 0.0
    for axis, coordinate in ((2, position[..., 0]), (1, position[..., 1])):
        for step in (1, -1):
            # Rolling brings the neighbour here; across the image's border it is no neighbour.
            beyond, cost = tf.roll(mask, -step, axis), tf.roll(outside, -step, axis)
            size = tf.shape(mask)[axis]
            edge = size - 1 if step == 1 else 0
            is_border = tf.reshape(tf.range(size) == edge, (1, -1, 1) if axis == 1 else (1, 1, -1))
            is_outline = mask * (1 - beyond) * tf.where(is_border, 0.0, 1.0)
            total += tf.reduce_sum(is_outline * (inside - cost) * step * coordinate, (1, 2))
    return total


def _mean_face_mask(face, camera, size):
    """Returns float32 `[N, S, S, 1]`: where the mean face is under a camera."""
    mean = tf.broadcast_to(tf.constant(face.mean), tf.concat([tf.shape(camera)[:1], face.mean.shape], 0))
    return tf.stop_gradient(renderer.silhouette(mean, face.triangles, camera, (size, size)))


def choose_anchors(is_candidate: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Picks at most `most` anchors of a batch, at random where there are more.

    Args:
        is_candidate: bool `[B, A]`.
        most: rows of the result.

    Returns:
        int32 `[most, 2]`, indices (image, anchor); float32 `[most]`, 1 for a candidate, 0 for padding.
    """
    flat = tf.reshape(is_candidate, (-1,))
    priority = tf.where(flat, tf.random.uniform(tf.shape(flat)), -1.0)
    count = tf.minimum(most, tf.size(flat))
    values, indices = tf.math.top_k(priority, count)
    values = tf.pad(values, [[0, most - count]], constant_values=-1.0)
    indices = tf.pad(indices, [[0, most - count]])
    num_anchors = tf.maximum(tf.shape(is_candidate)[1], 1)
    rows = tf.stack([indices // num_anchors, indices % num_anchors], -1)
    return tf.ensure_shape(rows, (most, 2)), tf.cast(tf.ensure_shape(values, (most,)) >= 0, tf.float32)


def crop(images: tf.Tensor, boxes: tf.Tensor, rows: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Resamples boxes of images to squares.

    Args:
        images: `[B, H, W, 3]`, RGB, 0..255.
        boxes: float32 `[N, 4]`, xyxy, pixels.
        rows: int32 `[N]`, the image of each box.
        size: side of the result, pixels.

    Returns:
        float32 `[N, size, size, 3]`, RGB, 0..1; float32 `[N, size, size, 1]`, 1 where the image reaches.
    """
    images = tf.cast(images, tf.float32) / 255.0
    image_size = tf.cast(tf.shape(images)[1:3], tf.float32)
    # The op takes the centres of the first and last sample, over the image's size less one.
    half = 0.5 * (boxes[:, 2:] - boxes[:, :2]) / size - 0.5
    low = (boxes[:, :2] + half)[:, ::-1] / (image_size - 1)
    high = (boxes[:, 2:] - half - 1)[:, ::-1] / (image_size - 1)
    squares = tf.concat([low, high], -1)
    crops = tf.image.crop_and_resize(images, squares, rows, (size, size))
    valid = tf.image.crop_and_resize(tf.ones_like(images[..., :1]), squares, rows, (size, size))
    return tf.stop_gradient(crops), tf.stop_gradient(valid)


class Photometric:
    """The photometric loss of a model.

    A plain object on purpose: Keras would make the frozen decoder a part of the model and of its files.

    Args:
        loss: its `dense_` fields.
        anchors: the model's.
    """

    def __init__(self, loss: config_lib.Loss, anchors: config_lib.Anchors):
        self._loss = loss
        self._anchors = anchors
        self.decoder = decoder_module.pretrained()
        self.decoder.trainable = False

    def __call__(self, images: tf.Tensor, targets: dict, outputs: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Sums the loss over the chosen anchors of a batch.

        Args:
            images: `[B, H, W, 3]`, RGB, 0..255.
            targets: `state` int32 `[B, A]` and `matched_box` float32 `[B, A, 4]`, xyxy, pixels.
            outputs: `mesh_code`, `box_deltas` and `landmark_deltas` of the model.

        Returns:
            As `dense_loss`.
        """
        settings, face = self._loss, self.decoder.face
        size = targets["matched_box"][..., 2:] - targets["matched_box"][..., :2]
        is_large = tf.reduce_min(size, -1) >= settings.dense_min_face
        is_candidate = tf.equal(targets["state"], matcher.POSITIVE) & is_large
        rows, weight = choose_anchors(is_candidate, settings.dense_max_faces)
        all_anchors = anchor.generate(tf.shape(images)[1:3], self._anchors.strides, self._anchors.sizes)
        anchors = tf.gather(all_anchors, rows[:, 1])
        boxes = box.decode(tf.gather_nd(outputs["box_deltas"], rows), anchors, self._anchors.variances)
        points = tf.gather_nd(outputs["landmark_deltas"], rows)
        points = landmark.decode(points, anchors, self._anchors.variances[0])
        crops, valid = crop(images, anchors, rows[:, 0], settings.dense_crop)
        return dense_loss(
            tf.gather_nd(outputs["mesh_code"], rows),
            crops,
            valid,
            camera_module.start_camera(boxes, points, anchors, face),
            weight,
            self.decoder,
            face,
            code_prior=settings.dense_code_prior,
            camera_prior=settings.dense_camera_prior,
            light_prior=settings.dense_light_prior,
        )
