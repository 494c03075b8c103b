"""What the training minimises."""

from __future__ import annotations

import dataclasses

from keras_retinaface.config import choice


@dataclasses.dataclass(frozen=True)
class Loss:
    """Weights and sampling of the training loss.

    Attributes:
        class_weight: factor of the class loss.
        box_weight: factor of the box loss.
        landmark_weight: factor of the landmark loss.
        class_loss: "ohem", softmax cross entropy with online hard example mining, or over all anchors "focal" or
            "quality", which teaches a face's score how well its box fits; with heads that know nothing yet the sum of
            these two starts large, which `clip_norm` bounds.
        negative_ratio: background anchors kept per positive one by online hard example mining.
        ohem_pool: what the hardest background anchors are looked for in: each "image", or the whole "batch" (of one
            device).
        class_count: what divides the sum of the mined class loss: all anchors "sampled", so that it is a mean, or the
            "positive" ones as in SSD and most public trainers, which makes it about `1 + negative_ratio` times as
            large. Focal and quality loss are always over the positive ones.
        focal_gamma: power of the focal loss that plays down what is already right, in the quality loss of background
            alone; 0 is cross entropy.
        focal_alpha: weight of faces in the focal loss; that of background is the rest of 1, in the quality loss too,
            where faces weigh 1.
        quality_target: what the quality loss wants of a face's score: the "overlap" of its predicted box, or "one".
        box_loss: "smooth_l1" of the offsets, or one minus the "giou", "ciou" or "eiou" of the boxes, which wants a
            `box_weight` of about 2.
        dense_weight: factor of the photometric loss, see `mesh.dense_loss`.
        dense_warmup: steps over which that factor rises from 0.
        dense_min_face: faces whose shorter side is under this many pixels have no photometric loss.
        dense_max_faces: most anchors a batch that have one.
        dense_crop: side in pixels of the anchor crops that it compares.
        dense_code_prior: pull of the code towards the mean face.
        dense_camera_prior: pull of the camera towards where it starts.
        dense_light_prior: pull of the light towards where it starts.
    """

    class_weight: float = 1.0
    box_weight: float = 0.25
    landmark_weight: float = 0.1
    class_loss: str = "ohem"
    negative_ratio: float = 3.0
    ohem_pool: str = "image"
    class_count: str = "sampled"
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    quality_target: str = "overlap"
    box_loss: str = "smooth_l1"
    dense_weight: float = 0.01
    dense_warmup: int = 500
    dense_min_face: float = 32.0
    dense_max_faces: int = 16
    dense_crop: int = 56
    dense_code_prior: float = 0.01
    dense_camera_prior: float = 0.01
    dense_light_prior: float = 0.01

    def __post_init__(self):
        dense = ("weight", "warmup", "min_face", "code_prior", "camera_prior", "light_prior")
        for name in ("class_weight", "box_weight", "landmark_weight", *(f"dense_{field}" for field in dense)):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {name}={getattr(self, name)}")
        for name, least in (("dense_max_faces", 1), ("dense_crop", 8)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be {least} or more. Received: {name}={getattr(self, name)}")
        if self.negative_ratio <= 0:
            raise ValueError(f"`negative_ratio` must be positive. Received: negative_ratio={self.negative_ratio}")
        choice.check(
            self, class_loss=choice.CLASS_LOSSES, quality_target=choice.QUALITY_TARGETS, box_loss=choice.BOX_LOSSES
        )
        choice.check(self, ohem_pool=choice.OHEM_POOLS, class_count=choice.CLASS_COUNTS)
        if self.focal_gamma < 0:
            raise ValueError(f"`focal_gamma` must not be negative. Received: focal_gamma={self.focal_gamma}")
        if not 0 < self.focal_alpha < 1:
            raise ValueError(f"`focal_alpha` must be in (0, 1). Received: focal_alpha={self.focal_alpha}")
