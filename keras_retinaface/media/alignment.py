"""From five landmarks to the upright crop that face recognition takes. Imports no TensorFlow."""

from __future__ import annotations

import cv2
import numpy as np

CROP_SIZE = 112
# What OpenCV can warp to, pixels a side; what fits in memory; and what still shows a face.
_LARGEST, _MOST_PIXELS, _WIDEST = 32_766, 2**28, 10.0
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


def crop(image: np.ndarray, landmarks: np.ndarray, size: int = CROP_SIZE, margin: float = 0.0) -> np.ndarray:
    """Cuts the aligned face out of an image; what lies outside the image is black.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        landmarks: float32 `[5, 2]`, pixels.
        size: side of the crop, pixels; the template grows with it.
        margin: what is added on each side, as a share of the crop without it.

    Returns:
        uint8 `[size, size, 3]`, RGB.

    Raises:
        ValueError: if `size` or `margin` is out of range, or all landmarks coincide.
    """
    _check(size, margin)
    template = (TEMPLATE + CROP_SIZE * margin) * (size / (CROP_SIZE * (1 + 2 * margin)))
    return cv2.warpAffine(image, similarity(landmarks, template), (size, size), flags=cv2.INTER_LINEAR)


def plain_crop(image: np.ndarray, box: np.ndarray, size: int | None = CROP_SIZE, margin: float = 0.0) -> np.ndarray:
    """Cuts a box out of an image as it lies there; what lies outside the image is black.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        box: float32 `[4]`, xyxy, pixels.
        size: side of the crop, pixels: a square about the box's middle with the side of its longer one, so that no face
            is stretched. None: the box itself, in the pixels of the image.
        margin: what is added on each side, as a share of the box's width and height.

    Returns:
        uint8 `[size, size, 3]`, or `[h, w, 3]` with the sides of the grown box to whole pixels.

    Raises:
        ValueError: if `size` or `margin` is out of range, or the box has no area.
    """
    _check(size, margin)
    low, high = np.asarray(box, np.float64).reshape(2, 2)
    sides = (high - low) * (1 + 2 * margin)
    if not (np.all(np.isfinite(sides)) and np.all(sides > 0)):
        raise ValueError(f"`box` must have an area. Received: {np.asarray(box).tolist()}")
    start = (low + high - sides) / 2
    if size is None:
        left, top = np.floor(start).astype(int)
        right, bottom = np.ceil(start + sides).astype(int)
        return _paste(image, (left, top, right, bottom), (bottom - top, right - left), 1.0)
    side = sides.max()
    left, top = (low + high - side) / 2
    return _paste(image, (left, top, left + side, top + side), (size, size), size / side)


def _paste(image, rectangle, size: tuple[int, int], scale: float) -> np.ndarray:
    """Brings what a rectangle, in pixels of the image, holds of it into a black picture of a size."""
    if size[0] * size[1] > _MOST_PIXELS:
        raise ValueError(f"a crop must have {_MOST_PIXELS:,} pixels at most. Received: {size[1]} x {size[0]}")
    left, top = rectangle[:2]
    x1, y1 = (max(0, int(np.floor(v))) for v in rectangle[:2])
    x2, y2 = (min(end, int(np.ceil(v))) for v, end in zip(rectangle[2:], image.shape[1::-1]))
    if x2 <= x1 or y2 <= y1:
        return np.zeros((*size, 3), np.uint8)
    part, factor = image[y1:y2, x1:x2], 1.0
    if scale < 1:  # shrunk by whole areas first: linear interpolation alone would drop pixels
        width, height = (max(1, round(v * scale)) for v in part.shape[1::-1])
        factor = np.array([width / part.shape[1], height / part.shape[0]])
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    # Middles of pixels: x of the part stands at (x + 0.5) / factor - 0.5 + x1 of the image.
    step = scale / (np.ones(2) * factor)
    shift = (np.array([x1 - left, y1 - top])) * scale + 0.5 * step - 0.5
    move = np.array([[step[0], 0, shift[0]], [0, step[1], shift[1]]])
    return cv2.warpAffine(part, move, size[::-1], flags=cv2.INTER_LINEAR)


def _check(size: int | None, margin: float) -> None:
    if size is not None and not (isinstance(size, (int, np.integer)) and 1 <= size <= _LARGEST):
        raise ValueError(f"`size` must be a whole number of pixels from 1 to {_LARGEST}. Received: size={size!r}")
    if not 0 <= margin <= _WIDEST:
        raise ValueError(f"`margin` must be in [0, {_WIDEST}]. Received: margin={margin}")
