"""What becomes of the network's outputs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Detection:
    """What becomes of the network's outputs.

    Attributes:
        score_threshold: detections under this score are dropped.
        iou_threshold: overlap from which non-maximum suppression takes two boxes for one face.
        max_faces: most faces returned an image.
        max_candidates: anchors an image, the best-scored ones, that enter non-maximum suppression.
        voting_iou: a face's box is the mean, weighted by the squared score, of all candidates that overlap the best one
            by this or more, those that suppression drops; 0 takes the best one as it is.
    """

    score_threshold: float = 0.5
    iou_threshold: float = 0.4
    max_faces: int = 750
    max_candidates: int = 5000
    voting_iou: float = 0.0

    def __post_init__(self):
        for name in ("score_threshold", "iou_threshold", "voting_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={getattr(self, name)}")
        for name in ("max_faces", "max_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 or more. Received: {name}={getattr(self, name)}")
