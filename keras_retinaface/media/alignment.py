"""From five landmarks to the upright crop that face recognition takes. Imports no TensorFlow."""

from __future__ import annotations

import cv2
import numpy as np

CROP_SIZE = 112
# Where eyes, nose tip and mouth corners of a 112 x 112 crop belong, pixels. Source: ArcFace (Deng et al., 2019).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


def similarity(landmarks: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """Computes the rotation, scale and shift that bring landmarks closest to a template.

    Args:
        landmarks: float32 `[N, 2]`, pixels.
        template: float32 `[N, 2]`, pixels.

    Returns:
        float64 `[2, 3]`, for points as columns (x, y, 1).

    Raises:
        ValueError: if all landmarks coincide.

    Source: least squares without reflection (Umeyama, 1991).
    """
    source, target = landmarks.astype(np.float64), template.astype(np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    source_centred, target_centred = source - source_mean, target - target_mean
    spread = (source_centred**2).sum()
    if spread == 0:
        raise ValueError(f"`landmarks` must not coincide. Received: {landmarks.tolist()}")
    # A similarity of the plane is one complex factor, and least squares over it has this closed form.
    a = (source_centred * target_centred).sum() / spread
    b = (source_centred[:, 0] * target_centred[:, 1] - source_centred[:, 1] * target_centred[:, 0]).sum() / spread
    matrix = np.array([[a, -b], [b, a]])
    return np.concatenate([matrix, (target_mean - matrix @ source_mean)[:, None]], axis=1)


def crop(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Cuts the aligned face out of an image; what lies outside the image is black.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        landmarks: float32 `[5, 2]`, pixels.

    Returns:
        uint8 `[112, 112, 3]`, RGB.
    """
    return cv2.warpAffine(image, similarity(landmarks), (CROP_SIZE, CROP_SIZE), flags=cv2.INTER_LINEAR)
