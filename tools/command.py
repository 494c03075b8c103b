"""What the commands that turn weights into an `.npz` share: reading lists of numbers, and writing or saying why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from absl import app, flags, logging


def numbers(flag: flags.FlagHolder) -> list[float]:
    """Returns the numbers of a list flag.

    Raises:
        app.UsageError: if one is none.
    """
    try:
        return [float(text) for text in flag.value]
    except ValueError as error:
        raise app.UsageError(f"--{flag.name} must be numbers. Received: {','.join(flag.value)!r}") from error


def write(path: str, make: Callable[[], Mapping[str, np.ndarray]]) -> int:
    """Writes what is made to an `.npz`.

    Args:
        path: the file.
        make: gives the weights by name; its ValueError or OSError becomes a line.

    Returns:
        The status to end with: 0, or 1 where it could not be made or written.
    """
    from keras_retinaface.weights import arrays

    try:
        arrays.write_npz(path, make())
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 1
    logging.info("wrote %s", path)
    return 0
