"""Draws the meshes of faces on images; boxes and points are drawn by `media.drawing`."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from keras_retinaface.mesh import reconstruction

_EDGE = (0.10, 0.35, 0.75)
_OPACITY = 0.85


def meshes(image: np.ndarray, found: Iterable, *, has_lines: bool = True) -> np.ndarray:
    """Draws the meshes of faces, near ones over far ones.

    Args:
        image: uint8 `[H, W, 3]`, RGB; not changed.
        found: `detector.Face`s with meshes; those without one are left out.
        has_lines: whether to draw the edges of the triangles that show.

    Returns:
        uint8 `[H, W, 3]`, RGB.
    """
    canvas = np.ascontiguousarray(image.copy())
    # Of two faces the larger is nearly always the nearer one.
    for face in sorted((face for face in found if face.mesh is not None), key=lambda face: np.ptp(face.mesh.points)):
        picture, mask, square = reconstruction.render(face.mesh, is_plain=has_lines)
        if has_lines:
            _draw_edges(picture, face.mesh, square)
        _paste(canvas, picture * mask[..., None], mask, square)
    return canvas


def _draw_edges(picture, mesh, square):
    """Draws the edges of triangles that face the viewer, thin."""
    scale = picture.shape[0] / (square[2] - square[0])
    points = (mesh.points - square[:2]) * scale
    corners = points[mesh.triangles]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # Counter-clockwise in space is clockwise in an image, whose y points down.
    is_front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    overlay = picture.copy()
    outlines = np.round(corners[is_front] * 16).astype(np.int32)
    cv2.polylines(overlay, list(outlines), True, _EDGE, 1, cv2.LINE_AA, shift=4)
    cv2.addWeighted(overlay, 0.35, picture, 0.65, 0, dst=picture)


def _paste(canvas, picture, mask, square):
    """Blends a picture of a square of the image, weighted by coverage, into the image."""
    low, high = np.floor(square[:2]).astype(int), np.ceil(square[2:]).astype(int)
    size = tuple(int(v) for v in high - low)
    scale = picture.shape[0] / (square[2] - square[0])
    # Where the pixels of the part of the image lie in the picture.
    move = np.array([[1 / scale, 0, square[0] - low[0]], [0, 1 / scale, square[1] - low[1]]])
    move[:, 2] += 0.5 / scale - 0.5
    layers = np.dstack([picture, mask]).astype(np.float32)
    if scale > 1:
        layers = cv2.blur(layers, (2, 2), anchor=(0, 0))
        move[:, 2] += 0.5 / scale
    layers = cv2.warpAffine(layers, move, size, flags=cv2.INTER_LINEAR)
    height, width = canvas.shape[:2]
    left, top = np.maximum(low, 0)
    right, bottom = np.minimum(high, (width, height))
    if right <= left or bottom <= top:
        return
    layers = layers[top - low[1] : bottom - low[1], left - low[0] : right - low[0]] * _OPACITY
    part = canvas[top:bottom, left:right]
    part[:] = np.clip(np.round(part * (1 - layers[..., 3:]) + 255 * layers[..., :3]), 0, 255).astype(np.uint8)
