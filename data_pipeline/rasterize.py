"""Draws triangle meshes with NumPy and OpenCV, for data; the differentiable renderer is in keras_retinaface.mesh."""

from __future__ import annotations

import cv2
import numpy as np

_SHIFT = 8


def triangle_ids(points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Finds the triangle that shows at each pixel, by painting from back to front.

    Args:
        points: float `[V, 2]`, (x, y) in pixels, pixel centres at halves.
        depth: float `[V]`, larger is farther away.
        triangles: int `[T, 3]`, counter-clockwise seen from outside with y up; those turned away are not drawn.
        size: (height, width) of the result.

    Returns:
        int32 `[H, W]`, -1 where there is nothing.
    """
    ids = np.full(size, -1, np.int32)
    corners = points[triangles]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # y points down in images, which turns the winding around.
    is_shown = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    shown = np.flatnonzero(is_shown)
    shown = shown[np.argsort(-depth[triangles[shown]].mean(1), kind="stable")]
    fixed = np.round((corners - 0.5) * (1 << _SHIFT)).astype(np.int32)
    for triangle in shown.tolist():
        cv2.fillConvexPoly(ids, fixed[triangle], triangle, cv2.LINE_8, _SHIFT)
    return ids


def interpolate(
    ids: np.ndarray, points: np.ndarray, triangles: np.ndarray, attributes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolates vertex attributes over the pixels that show a triangle.

    Args:
        ids: int32 `[H, W]` from `triangle_ids`.
        points: float `[V, 2]`, (x, y) in pixels.
        triangles: int `[T, 3]`.
        attributes: float `[V, C]`.

    Returns:
        The flat indices `[P]` of covered pixels and their attributes `[P, C]`. Painted edges reach up to a pixel
        outside their triangle; there the nearest point of the triangle counts.
    """
    covered = np.flatnonzero(ids.reshape(-1) >= 0)
    corners = triangles[ids.reshape(-1)[covered]]
    a, b, c = (points[corners[:, k]] for k in range(3))
    pixels = np.stack([covered % ids.shape[1], covered // ids.shape[1]], 1) + 0.5
    area = _cross(b - a, c - a)
    weights = np.stack(
        [_cross(b - pixels, c - pixels), _cross(c - pixels, a - pixels), _cross(a - pixels, b - pixels)], 1
    )
    weights = np.clip(weights / np.where(np.abs(area) < 1e-12, 1, area)[:, None], 0, 1)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return covered, np.einsum("pk,pkc->pc", weights, attributes[corners])


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
