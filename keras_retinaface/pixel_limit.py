"""How many pixels an image file may become before it is refused; on the ground, and imports nothing."""

from __future__ import annotations

# No file may become more pixels than this unless `max_pixels` says so; the largest photos of phones have 200 million.
MAX_PIXELS = 2**28
# Above so many pixels a file must hold a byte for every `PIXELS_PER_BYTE`: photos have 2 to 30, bombs thousands.
SMALL_PIXELS, PIXELS_PER_BYTE = 2**25, 256


def of_file(num_bytes: int, max_pixels: int | None = None) -> int:
    """Returns the most pixels that a file may become; `geometry.encoded_image` has the same rule for a graph.

    Args:
        num_bytes: length of the file.
        max_pixels: the limit itself, whatever the file's size. None goes by the size: 33 million pixels, 256 a byte
            where that is more, 268 million at most.
    """
    if max_pixels is not None:
        return max_pixels
    return min(max(SMALL_PIXELS, PIXELS_PER_BYTE * num_bytes), MAX_PIXELS)
