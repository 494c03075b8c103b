"""Says how to install tensorflow-graphics where it is missing, when something that stands on it is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_COMMAND = "pip install --no-deps tensorflow-graphics==2021.12.3"


@contextlib.contextmanager
def needed_for(purpose: str) -> Iterator[None]:
    """Wraps the import of what stands on tensorflow-graphics, which detection and meshes do without.

    Args:
        purpose: what it is imported for, the subject of the error.

    Raises:
        ValueError: if tensorflow-graphics is missing; names the command.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("tensorflow_graphics"):
            raise
        raise ValueError(f"{purpose} needs tensorflow-graphics: {_COMMAND}. Received: {error}") from error
