"""Which views of an image a detector looks at: scales, tiles, mirrored or not, and what a network of fixed size gets.

The way back is in `merging`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from keras_retinaface import config as config_lib

ORIGINAL = "original"
# Short edges of the paper's test-time pyramid, pixels.
PAPER_SHORT_EDGES = (500, 800, 1100, 1400, 1700)
# Share of a tile that its neighbour sees too. A face up to that size is whole in one of them.
TILE_OVERLAP = 0.25


@dataclasses.dataclass(frozen=True)
class View:
    """A part of an image, scaled and perhaps mirrored.

    Attributes:
        rectangle: xyxy, whole pixels of the image.
        input_size: (height, width) of the picture that the network gets, pixels.
        image_size: (height, width) of the image, pixels.
        is_flipped: whether the picture is mirrored.
        level: 0 for the largest scale of an image, 1 for the next smaller one and so on, see `overview`.
        face_sizes: longer sides of the faces that the view answers for, from and below, pixels of the image.
    """

    rectangle: tuple[int, int, int, int]
    input_size: tuple[int, int]
    image_size: tuple[int, int]
    is_flipped: bool = False
    level: int = 0
    face_sizes: tuple[float, float] = (0.0, math.inf)

    @property
    def is_added(self) -> bool:
        """Whether it is there for the faces alone that are too large for other views."""
        return self.face_sizes[0] > 0

    @property
    def scale(self) -> float:
        """Factor from pixels of the image to pixels of the picture."""
        left, top, right, bottom = self.rectangle
        return max(self.input_size) / max(right - left, bottom - top)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the image is left out."""
        return self.rectangle == (0, 0, self.image_size[1], self.image_size[0])


def cut(image: np.ndarray, view: View) -> np.ndarray:
    """Cuts the picture of a view out of its image.

    Args:
        image: `[H, W, C]`.
        view: view of an image of that size.

    Returns:
        `[*view.input_size, C]`, contiguous, the image's dtype; the image itself where there is nothing to do.

    Raises:
        ValueError: if the view was made for another size.
    """
    if tuple(image.shape[:2]) != tuple(view.image_size):
        raise ValueError(f"`view` is of an image of {view.image_size}. Received: an image of {image.shape[:2]}")
    left, top, right, bottom = view.rectangle
    picture = _resize(image[top:bottom, left:right], view.input_size)
    if view.is_flipped:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def parse_size(text: str) -> str | int | tuple[int, int]:
    """Reads the value of an `--image_size` flag.

    Args:
        text: "original", "SHORT,LONG" or "LONG", pixels.

    Returns:
        What `scale_of` takes as `size`.

    Raises:
        ValueError: if it is none of them.
    """
    text = text.strip()
    if text == ORIGINAL:
        return ORIGINAL
    try:
        sides = tuple(int(part) for part in text.split(","))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2) or any(side < 1 for side in sides):
        raise ValueError(f"`image_size` must be 'original', 'SHORT,LONG' or 'LONG', pixels. Received: {text!r}")
    return sides[0] if len(sides) == 1 else sides


def scale_of(image_size: tuple[int, int], size: str | int | tuple[int, int]) -> float:
    """Computes the factor that a resize policy gives an image.

    Args:
        image_size: (height, width), pixels.
        size: "original": 1; a number: what the long side becomes; (short, long): what the short side becomes, unless
            the long side would then exceed `long`. Images are enlarged too.

    Raises:
        ValueError: if the image is empty or the policy is none of these.
    """
    _check_image_size(image_size)
    short, long = min(image_size), max(image_size)
    if isinstance(size, str):
        if size != ORIGINAL:
            raise ValueError(f"`size` must be 'original', a number or a pair. Received: {size!r}")
        return 1.0
    if np.ndim(size) == 0:
        if size < 1:
            raise ValueError(f"`size` must be positive. Received: {size}")
        return float(size) / long
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"`size` must be (short, long), positive. Received: {size}")
    return min(size[0] / short, size[1] / long)


def pyramid(image_size: tuple[int, int], short_edges: Sequence[int] = PAPER_SHORT_EDGES) -> list[float]:
    """Computes the factors that bring the short edge of an image to each length.

    Args:
        image_size: (height, width), pixels.
        short_edges: pixels.

    Raises:
        ValueError: if the image is empty or an edge is not positive.
    """
    _check_image_size(image_size)
    if not len(short_edges) or any(edge < 1 for edge in short_edges):
        raise ValueError(f"`short_edges` must be positive. Received: {tuple(short_edges)}")
    return [edge / min(image_size) for edge in short_edges]


def tiles(image_size: tuple[int, int], tile: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Covers an image with squares of one size, evenly spread, so that all of them keep one input shape.

    Args:
        image_size: (height, width), pixels.
        tile: side, pixels; an image side that is shorter is taken whole.
        overlap: pixels that neighbours share at least.

    Returns:
        Rectangles, xyxy, whole pixels, row by row.

    Raises:
        ValueError: if the overlap is not smaller than the tile.
    """
    _check_image_size(image_size)
    if not 0 <= overlap < tile:
        raise ValueError(f"`overlap` must be in [0, tile). Received: overlap={overlap}, tile={tile}")
    (tops, height), (lefts, width) = (_starts(side, tile, overlap) for side in image_size)
    return [(left, top, left + width, top + height) for top in tops for left in lefts]


def views(
    image_size: tuple[int, int],
    factors: Sequence[float],
    *,
    flip: bool = False,
    tile: int | None = None,
) -> list[View]:
    """Lists everything a detector looks at in an image.

    Args:
        image_size: (height, width), pixels.
        factors: scales from pixels of the image to pixels of the picture, as from `scale_of` or `pyramid`.
        flip: whether to look at every picture mirrored too.
        tile: largest side of a picture, pixels; what a scale makes larger is cut into tiles, and if no scale leaves the
            image whole, a view of all of it at that size is added, for the faces that no tile holds. None: no tiles.

    Raises:
        ValueError: if a value is out of range.
    """
    _check_image_size(image_size)
    if not len(factors) or any(not factor > 0 for factor in factors):
        raise ValueError(f"`factors` must be positive. Received: {list(factors)}")
    if tile is not None and tile < 1:
        raise ValueError(f"`tile` must be positive. Received: tile={tile}")
    found = []
    for factor in factors:
        if tile is None or max(_input_size(image_size, factor)) <= tile:
            found.append(whole(image_size, factor))
        else:
            found.extend(_tiled(image_size, factor, tile))
    if not any(view.is_whole for view in found):
        found.append(whole(image_size, tile / max(image_size)))
    if flip:
        found = [v for view in found for v in (view, dataclasses.replace(view, is_flipped=True))]
    return found


def fit(size: tuple[int, int], choice: tuple[int, int]) -> float:
    """Returns the largest factor by which a picture of `size`, (height, width), still fits into `choice`."""
    return min(choice[0] / size[0], choice[1] / size[1])


def best_size(size: tuple[int, int], choices: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Returns the smallest choice that takes a picture without shrinking it, or the one that shrinks it least."""
    factors = {choice: fit(size, choice) for choice in choices}
    roomy = [choice for choice in choices if factors[choice] >= 1]
    return min(roomy, key=lambda choice: choice[0] * choice[1]) if roomy else max(choices, key=factors.get)


def letterbox(image: np.ndarray, size: tuple[int, int], *, may_enlarge: bool = True) -> tuple[np.ndarray, float]:
    """Fits an image into a fixed size, keeping its shape, padded at the right or at the bottom.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        size: (height, width) of the result, pixels.
        may_enlarge: whether a smaller image is enlarged.

    Returns:
        uint8 `[height, width, 3]` and the factor from pixels of the image to pixels of the result.
    """
    scale = fit(image.shape[:2], size) if may_enlarge else min(1.0, fit(image.shape[:2], size))
    height, width = _input_size(image.shape[:2], scale)
    image = _resize(image, (height, width))
    if (height, width) == tuple(size):
        return image, scale
    padded = np.empty((*size, 3), np.uint8)
    padded[:] = config_lib.PADDING
    padded[:height, :width] = image
    return padded, scale


def _starts(side: int, tile: int, overlap: int) -> tuple[list[int], int]:
    if side <= tile:
        return [0], side
    count = -(-(side - overlap) // (tile - overlap))
    return [round(i * (side - tile) / (count - 1)) for i in range(count)], tile


def whole(image_size: tuple[int, int], scale: float) -> View:
    """Returns the view of a whole image.

    Args:
        image_size: (height, width), pixels.
        scale: factor from pixels of the image to pixels of the picture.
    """
    return View((0, 0, image_size[1], image_size[0]), _input_size(image_size, scale), tuple(image_size))


def _tiled(image_size, scale: float, tile: int) -> list[View]:
    # Tiles are laid out in pixels of the image, so that cutting comes before scaling and no huge picture is made.
    side = max(1, int(tile / scale))
    rectangles = tiles(image_size, side, min(side - 1, round(side * TILE_OVERLAP)))
    return [
        View((x1, y1, x2, y2), _input_size((y2 - y1, x2 - x1), scale), tuple(image_size))
        for x1, y1, x2, y2 in rectangles
    ]


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == tuple(size):
        return picture
    if size[0] * size[1] >= picture.shape[0] * picture.shape[1]:
        return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
    # Linear interpolation drops pixels when it shrinks, and with them the eyes of small faces.
    return cv2.resize(_halve(picture, size), size[::-1], interpolation=cv2.INTER_AREA)


def _halve(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Halves a picture as often as that leaves it twice a size or more: means of 2 x 2 pixels are quick to take."""
    while all(side % 2 == 0 and side >= 4 * wanted for side, wanted in zip(picture.shape[:2], size)):
        picture = cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return picture


def _input_size(size, scale: float) -> tuple[int, int]:
    return tuple(max(1, round(side * scale)) for side in size)


def _check_image_size(image_size) -> None:
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(f"`image_size` must be (height, width), positive. Received: {tuple(image_size)}")
