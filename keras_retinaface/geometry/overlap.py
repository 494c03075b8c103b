"""What boxes share, in NumPy: the twin of `box` for where there is no graph. Imports no TensorFlow."""

from __future__ import annotations

import numpy as np


def measure(boxes: np.ndarray, others: np.ndarray, *, pixel: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Measures what boxes share with others and what both cover together, in the order that NumPy broadcasts them.

    Args:
        boxes: float `[..., 4]`, xyxy, pixels.
        others: float `[..., 4]`, as `boxes`.
        pixel: 1: the last pixel counts too, so that a box of w x h has (w + 1) x (h + 1) pixels, as WIDER FACE's
            official code has it; 0: as COCO has it.

    Returns:
        Float `[...]`, twice: the area of the intersection and of the union, square pixels. A box whose width or height
        is negative has none.
    """
    x1, y1, x2, y2 = _sides(boxes)
    left, top, right, bottom = _sides(others)
    # The order of operations of WIDER FACE's official code: overlaps of exactly a threshold occur.
    width, height = np.minimum(x2, right), np.minimum(y2, bottom)
    width -= np.maximum(x1, left)
    height -= np.maximum(y1, top)
    if pixel:
        width += pixel
        height += pixel
    shared = np.maximum(width, 0)
    shared *= np.maximum(height, 0)
    return shared, _area(x1, y1, x2, y2, pixel) + _area(left, top, right, bottom, pixel) - shared


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes intersection over union of every pair.

    Args:
        boxes: float `[N, 4]`, xyxy, pixels.
        others: float `[M, 4]`, as `boxes`.

    Returns:
        Float `[N, M]` in [0, 1]; 0 where both boxes are empty.
    """
    return _over(*measure(boxes[:, None], others[None]))


def share(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes the share of every box that lies in each of others.

    Args:
        boxes: float `[N, 4]`, xyxy, pixels.
        others: float `[M, 4]`, as `boxes`.

    Returns:
        Float `[N, M]` in [0, 1]; 0 for an empty box.
    """
    shared, _ = measure(boxes[:, None], others[None])
    return _over(shared, np.broadcast_to(_area(*_sides(boxes))[:, None], shared.shape))


def _sides(boxes) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(boxes, -1, 0))


def _area(x1, y1, x2, y2, pixel: float = 0) -> np.ndarray:
    return np.maximum(x2 - x1 + pixel, 0) * np.maximum(y2 - y1 + pixel, 0)


def _over(part, whole) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(part.shape, np.result_type(part, np.float32)), where=whole > 0)
