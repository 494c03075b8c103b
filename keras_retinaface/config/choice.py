"""The words that fields of a config choose from."""

from __future__ import annotations

from keras_retinaface import image_mean

PADDING = tuple(int(channel) for channel in image_mean.PUBLIC)
BACKBONES = (
    *("mobilenet025", "mobilenet050", "mobilenet100", "mobilenet_v2", "mobilenet_v2_160", "mobilenet_v2_1280"),
    *("resnet18", "resnet34", "resnet50", "resnet152", "resnet50_v2"),
)
LAYOUTS = ("torchvision", "keras")
DEFORM_SAMPLERS = ("auto", "sparse", "gather")
ASSIGNMENTS = ("paper", "dynamic")
CLASS_LOSSES = ("ohem", "focal", "quality")
QUALITY_TARGETS = ("overlap", "one")
CLASS_COUNTS = ("sampled", "positive")
OHEM_POOLS = ("image", "batch")
OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("steps", "cosine")
DECAY_MODES = ("l2", "decoupled")
BOX_LOSSES = ("smooth_l1", "giou", "ciou", "eiou")


def check(section, **choices: tuple[str, ...]) -> None:
    """Raises a ValueError if a field of a section is none of its choices; names it."""
    for name, allowed in choices.items():
        if getattr(section, name) not in allowed:
            raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={getattr(section, name)!r}")
