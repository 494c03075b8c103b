"""What the five landmarks of a face are, and where they lie among 68 points. NumPy only, imports no TensorFlow."""

from __future__ import annotations

import numpy as np

# In their order: left and right of the image.
NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
# Where each point comes from when an image is mirrored: the eyes and the mouth corners change sides.
MIRRORED = (1, 0, 2, 4, 3)
# Of the 68 points of 300-W: both eyes by their six, the nose tip, the mouth corners.
_EYES, _OTHERS = (slice(36, 42), slice(42, 48)), (30, 48, 54)


def from_68(points: np.ndarray) -> np.ndarray:
    """Reduces the 68 points of 300-W to five: eye centres, nose tip, mouth corners.

    Args:
        points: float `[..., 68, C]`.

    Returns:
        Float `[..., 5, C]`.
    """
    eyes = [points[..., eye, :].mean(axis=-2) for eye in _EYES]
    return np.stack([*eyes, *(points[..., point, :] for point in _OTHERS)], axis=-2)
