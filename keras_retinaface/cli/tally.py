"""What a run of detection came to, for its table and its exit status."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Tally:
    """What a run came to."""

    images: int = 0
    broken: int = 0
    unwritten: int = 0
    faces: int = 0
    first_seconds: float | None = None
    seconds: float = 0.0
    later: int = 0

    def took(self, seconds: float) -> None:
        """Counts the time of an image, that of the first apart: TensorFlow builds its graph there."""
        if self.first_seconds is None:
            self.first_seconds = seconds
        else:
            self.seconds += seconds
            self.later += 1

    def times(self) -> str:
        """Returns the columns of the first image's and the others' mean milliseconds."""
        first = "-" if self.first_seconds is None else f"{1000 * self.first_seconds:.1f}"
        others = f"{1000 * self.seconds / self.later:.1f}" if self.later else "-"
        return f"{first:>9} {others:>9}"

    def status(self) -> int:
        """Returns the exit status of a run that nothing stopped."""
        return 1 if self.broken or self.unwritten else 0
