"""Draws boxes, scores and points on images; meshes are drawn by `mesh.drawing`. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

_BOX = (40, 220, 90)
# One colour a landmark, so that a swapped left and right shows.
_POINTS = ((255, 80, 80), (80, 160, 255), (255, 230, 60), (255, 80, 255), (80, 255, 255))


def faces(image: np.ndarray, found: Iterable) -> np.ndarray:
    """Draws boxes, scores and landmarks.

    Args:
        image: uint8 `[H, W, 3]`, RGB; not changed.
        found: `detector.Face`s.

    Returns:
        uint8 `[H, W, 3]`, RGB.
    """
    canvas = np.ascontiguousarray(image.copy())
    # Lines one pixel wide vanish on large photos.
    thickness = max(1, round(min(image.shape[:2]) / 500))
    for face in found:
        x1, y1, x2, y2 = (int(round(float(v))) for v in face.box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _BOX, thickness, cv2.LINE_AA)
        radius = max(1, round((x2 - x1) / 40))
        for point, colour in zip(face.landmarks, _POINTS):
            centre = tuple(int(round(float(v))) for v in point)
            cv2.circle(canvas, centre, radius, colour, -1, cv2.LINE_AA)
        scale = max(0.35, (x2 - x1) / 250)
        baseline = (x1, max(y1 - 2 * thickness, round(12 * scale)))
        for colour, width in (((0, 0, 0), 3 * thickness), (_BOX, thickness)):
            cv2.putText(
                canvas, f"{face.score:.2f}", baseline, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA
            )
    return canvas
