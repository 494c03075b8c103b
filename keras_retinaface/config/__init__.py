"""Every size and choice of a model and its training, as frozen dataclasses. No TensorFlow here."""

from keras_retinaface.config.augmentation import Augmentation
from keras_retinaface.config.choice import (
    ASSIGNMENTS,
    BACKBONES,
    BOX_LOSSES,
    CLASS_COUNTS,
    CLASS_LOSSES,
    DECAY_MODES,
    DEFORM_SAMPLERS,
    LAYOUTS,
    OHEM_POOLS,
    OPTIMIZERS,
    PADDING,
    QUALITY_TARGETS,
    SCHEDULES,
)
from keras_retinaface.config.detection import Detection
from keras_retinaface.config.experiment import PRESETS, Config, format_value, section_of
from keras_retinaface.config.loss import Loss
from keras_retinaface.config.network import Anchors, Network
from keras_retinaface.config.text import describe_fields, parse
from keras_retinaface.config.training import Training

__all__ = [
    "ASSIGNMENTS",
    "BACKBONES",
    "BOX_LOSSES",
    "CLASS_COUNTS",
    "CLASS_LOSSES",
    "DECAY_MODES",
    "DEFORM_SAMPLERS",
    "LAYOUTS",
    "OHEM_POOLS",
    "OPTIMIZERS",
    "PADDING",
    "PRESETS",
    "QUALITY_TARGETS",
    "SCHEDULES",
    "Anchors",
    "Augmentation",
    "Config",
    "Detection",
    "Loss",
    "Network",
    "Training",
    "describe_fields",
    "format_value",
    "parse",
    "section_of",
]
