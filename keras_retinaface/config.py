"""Every size and choice of a model and its training, as frozen dataclasses. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing

# What the first layer of the MobileNets subtracts, so that padding in this colour is zero to the network.
PADDING = (123, 117, 104)
BACKBONES = ("mobilenet025", "mobilenet_v2", "resnet50", "resnet152")
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
# No number in the text of a config is beyond; seeds are the largest.
_LARGEST = 1 << 64


def _check_choice(section, **choices: tuple[str, ...]) -> None:
    for name, allowed in choices.items():
        if getattr(section, name) not in allowed:
            raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={getattr(section, name)!r}")


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Where anchors stand and how faces are matched to them.

    Attributes:
        strides: pixels between anchor centres, one per pyramid level, each twice the one before.
        sizes: side lengths of the square anchors in pixels, one tuple per level.
        variances: divisors of the encoded (centre, size) offsets; (1, 1) is plain Fast R-CNN. Landmark offsets use the
            first.
        assignment: who gives anchors to faces: the "paper" by their overlaps, as the fields below say, or "dynamic",
            the network's own outputs, see `assignment`, which reads none of them.
        positive_iou: an anchor whose best face reaches more than this overlap is positive.
        negative_iou: an anchor whose best face stays under this overlap is background; between the two it is ignored.
        keep_best_anchor: whether every face also claims its best anchor, however small the overlap.
        compensation: overlap that the best anchor of a face counts as at least; the others rise with it. Over 0, faces
            smaller than every anchor have several positive ones.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    sizes: tuple[tuple[float, ...], ...] = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
    variances: tuple[float, float] = (0.1, 0.2)
    assignment: str = "paper"
    positive_iou: float = 0.5
    negative_iou: float = 0.3
    keep_best_anchor: bool = True
    compensation: float = 0.0

    def __post_init__(self):
        _check_choice(self, assignment=ASSIGNMENTS)
        if not self.strides or any(s < 4 or s & (s - 1) for s in self.strides):
            raise ValueError(f"`strides` must be powers of two from 4. Received: strides={self.strides}")
        if any(b != 2 * a for a, b in zip(self.strides, self.strides[1:])):
            raise ValueError(f"`strides` must double from level to level. Received: strides={self.strides}")
        if len(self.sizes) != len(self.strides) or not all(self.sizes):
            raise ValueError(
                f"`sizes` must hold one non-empty tuple per stride. "
                f"Received: strides={self.strides}, sizes={self.sizes}"
            )
        if any(len(level) != len(self.sizes[0]) for level in self.sizes):
            raise ValueError(f"`sizes` must hold equally many sizes per level. Received: sizes={self.sizes}")
        if any(size <= 0 for level in self.sizes for size in level):
            raise ValueError(f"`sizes` must be positive. Received: sizes={self.sizes}")
        if len(self.variances) != 2 or any(v <= 0 for v in self.variances):
            raise ValueError(f"`variances` must be two positive numbers. Received: variances={self.variances}")
        if not 0 <= self.compensation < 1:
            raise ValueError(f"`compensation` must be in [0, 1). Received: compensation={self.compensation}")
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                "`negative_iou` and `positive_iou` must satisfy 0 <= negative_iou <= positive_iou <= 1. "
                f"Received: negative_iou={self.negative_iou}, positive_iou={self.positive_iou}"
            )

    @property
    def num_per_location(self) -> int:
        """Anchors that stand on one location of a level."""
        return len(self.sizes[0])


@dataclasses.dataclass(frozen=True)
class Network:
    """The layers of a model.

    Attributes:
        backbone: one of `BACKBONES`.
        backbone_layout: whose form a ResNet or MobileNetV2 has, "torchvision" or "keras" (`keras.applications`): where
            it strides and pads; weights of one are wrong in the other.
        pyramid_channels: channels of every pyramid level and context module.
        negative_slope: of the leaky ReLU in backbone (MobileNet only), pyramid and context; 0 is plain ReLU.
        use_shared_heads: one set of head convolutions for all levels, as in the paper, or one per level.
        dense: whether there is a dense head: code, camera and light of a mesh for every anchor. Detection alone does
            without it.
        dense_channels: of the dense head's own tower on context features and image, see `layers.dense`; 0 for the
            paper's 1x1 convolution on context features alone.
        use_deformable: whether the 3x3 convolutions of lateral connections and context modules are deformable.
        deform_tile: output locations that a deformable convolution samples at once; less is less memory.
        deform_sampler: how it samples: "sparse" is fastest on a CPU, "gather" is for accelerators, "auto" goes by the
            machine's devices.
    """

    backbone: str = "mobilenet025"
    backbone_layout: str = "torchvision"
    pyramid_channels: int = 64
    negative_slope: float = 0.1
    use_shared_heads: bool = False
    dense: bool = False
    dense_channels: int = 0
    use_deformable: bool = False
    deform_tile: int = 4096
    deform_sampler: str = "auto"

    def __post_init__(self):
        _check_choice(self, backbone=BACKBONES, backbone_layout=LAYOUTS, deform_sampler=DEFORM_SAMPLERS)
        if self.deform_tile < 1:
            raise ValueError(f"`deform_tile` must be 1 or more. Received: deform_tile={self.deform_tile}")
        if self.pyramid_channels <= 0 or self.pyramid_channels % 4:
            raise ValueError(
                "`pyramid_channels` must be a positive multiple of 4. "
                f"Received: pyramid_channels={self.pyramid_channels}"
            )
        if self.dense_channels < 0:
            raise ValueError(f"`dense_channels` must not be negative. Received: dense_channels={self.dense_channels}")
        if not 0 <= self.negative_slope < 1:
            raise ValueError(f"`negative_slope` must be in [0, 1). Received: negative_slope={self.negative_slope}")


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
        _check_choice(self, class_loss=CLASS_LOSSES, quality_target=QUALITY_TARGETS, box_loss=BOX_LOSSES)
        _check_choice(self, ohem_pool=OHEM_POOLS, class_count=CLASS_COUNTS)
        if self.focal_gamma < 0:
            raise ValueError(f"`focal_gamma` must not be negative. Received: focal_gamma={self.focal_gamma}")
        if not 0 < self.focal_alpha < 1:
            raise ValueError(f"`focal_alpha` must be in (0, 1). Received: focal_alpha={self.focal_alpha}")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What the input pipeline does to an image before targets are encoded.

    Attributes:
        image_size: (height, width) of a training image in pixels.
        crop_scale: smallest and largest side of the random square crop over the short edge.
        crop_pixels: smallest and largest short edge of the random crop in pixels of the image as it is, beyond its
            border if need be, so that faces stay near their own scale however large the image; instead of `crop_scale`
            and zooming out unless it is (0, 0).
        native_scale: smallest and largest size of a training image over the image as it is, equally likely by factor;
            the crop is what then fills `image_size`, beyond the border by an eighth of its side at most, or what an
            image leaves of it. Instead of `crop_scale`, `crop_pixels` and zooming out unless it is (0, 0).
        zoom_out_probability: of a crop that reaches beyond the border, so that faces of an image's size appear whole.
        zoom_out_scale: smallest and largest side of such a crop over the short edge.
        background_probability: of a crop placed anywhere; all others hold at least one face, with `native_scale` its
            centre.
        antialias_probability: of shrinking with a filter as wide as the scale asks, not with what is drawn of the three
            methods that see a few pixels.
        flip_probability: of mirroring an image.
        photometric_probability: of changing brightness, contrast, hue and saturation.
        brightness: largest shift either way, of 255.
        contrast: smallest and largest factor.
        hue: largest turn either way, radians.
        saturation: smallest and largest factor.
        grey_probability: of taking all colour away.
        blur_probability: of a Gaussian blur.
        jpeg_probability: of JPEG artefacts.
        mosaic_probability: of a sample made of four images.
        min_face: faces whose shorter side is under this many pixels after the crop are ignored, not background.
        max_cut: faces of which the crop cuts off more than this share are ignored; those whose centre it cuts off are
            in any case.
    """

    image_size: tuple[int, int] = (640, 640)
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_pixels: tuple[float, float] = (0.0, 0.0)
    native_scale: tuple[float, float] = (0.0, 0.0)
    zoom_out_probability: float = 0.2
    zoom_out_scale: tuple[float, float] = (1.0, 2.0)
    background_probability: float = 0.05
    antialias_probability: float = 0.0
    flip_probability: float = 0.5
    photometric_probability: float = 0.8
    brightness: float = 0.125
    contrast: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.3
    saturation: tuple[float, float] = (0.5, 1.5)
    grey_probability: float = 0.0
    blur_probability: float = 0.0
    jpeg_probability: float = 0.0
    mosaic_probability: float = 0.0
    min_face: float = 6.0
    max_cut: float = 1.0

    def __post_init__(self):
        if len(self.image_size) != 2 or any(side < 32 for side in self.image_size):
            raise ValueError(f"`image_size` must be (height, width), each 32 or more. Received: {self.image_size}")
        for name in ("crop_scale", "zoom_out_scale", "contrast", "saturation"):
            values = getattr(self, name)
            if len(values) != 2 or not 0 < values[0] <= values[1]:
                raise ValueError(f"`{name}` must be (smallest, largest), positive. Received: {values}")
        for name, least in (("crop_pixels", 1), ("native_scale", 0.01)):
            values = getattr(self, name)
            is_off = tuple(values) == (0, 0)
            if not is_off and not (len(values) == 2 and least <= values[0] <= values[1]):
                raise ValueError(
                    f"`{name}` must be (smallest, largest), each {least} or more, or (0, 0). Received: {name}={values}"
                )
        if self.crop_pixels[1] and self.native_scale[1]:
            raise ValueError(
                "`crop_pixels` and `native_scale` exclude each other. "
                f"Received: crop_pixels={self.crop_pixels}, native_scale={self.native_scale}"
            )
        if self.crop_scale[1] > 1:
            raise ValueError(f"`crop_scale` must not pass 1; see `zoom_out_scale`. Received: {self.crop_scale}")
        for name in (field.name for field in dataclasses.fields(self) if field.name.endswith("_probability")):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={getattr(self, name)}")
        for name, largest in (("brightness", 1.0), ("hue", 3.15), ("max_cut", 1.0)):
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"`{name}` must be in [0, {largest}]. Received: {name}={getattr(self, name)}")
        if self.min_face < 0:
            raise ValueError(f"`min_face` must not be negative. Received: min_face={self.min_face}")


@dataclasses.dataclass(frozen=True)
class Training:
    """Schedule and optimizer.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, over all devices.
        accumulate_steps: parts that a step takes its batch in, one after the other, to fit a large one in memory. The
            gradient is that of the whole batch; only norms that are not frozen see part by part.
        optimizer: "sgd" with momentum, or "adam", which wants a `learning_rate` of about 1e-3; with `decay_mode`
            "decoupled" that is AdamW.
        learning_rate: peak of the schedule.
        backbone_rate: factor of the learning rate for the backbone; the convolutions that give offsets to deformable
            ones always have a tenth.
        warmup: share of all steps over which the rate rises to its peak.
        schedule: how the rate falls after that: in "steps", or along a "cosine" to 0.
        milestones: shares of all steps at which the rate falls to a tenth, for the schedule of steps.
        momentum: of SGD; of Adam the one of the gradient.
        square_momentum: of Adam, the one of the squared gradient.
        weight_decay: pull on convolution kernels to zero, not on norms and biases.
        decay_mode: "l2" adds the pull to the gradient, as the paper's code and PyTorch's SGD do, so that momentum
            multiplies it; "decoupled" takes it off beside the step, for Adam or a weaker pull.
        clip_norm: largest norm of all gradients together; longer ones are shortened to it. 0 is no limit.
        ema_decay: share of the old value that a moving average of all weights keeps each step, for example 0.999;
            validation and saved models then use the average. 0 is none.
        use_unfolded_norms: whether to put back batch norms that the initial weights have folded away, measured on the
            first training images; see `norms`.
        use_frozen_norms: whether batch norms keep their stored mean and variance, for fine-tuning on few images.
        use_frozen_detector: whether only the dense head learns.
        use_frozen_backbone_norms: the same for the batch norms of the backbone only, for small batches.
        frozen_stages: stages of the backbone that keep their weights: 1 is the stem, 2 also all up to C2, to 5.
        use_recompute: whether the gradient computes the backbone's blocks again instead of keeping what they computed:
            less memory, more time.
        seed: of weights, order of samples and augmentation.
    """

    epochs: int = 80
    batch_size: int = 8
    accumulate_steps: int = 1
    optimizer: str = "sgd"
    learning_rate: float = 1e-2
    backbone_rate: float = 1.0
    warmup: float = 5 / 80
    schedule: str = "steps"
    milestones: tuple[float, ...] = (55 / 80, 68 / 80)
    momentum: float = 0.9
    square_momentum: float = 0.999
    weight_decay: float = 5e-4
    decay_mode: str = "l2"
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    use_unfolded_norms: bool = False
    use_frozen_norms: bool = False
    use_frozen_detector: bool = False
    use_frozen_backbone_norms: bool = False
    frozen_stages: int = 0
    use_recompute: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "accumulate_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 or more. Received: {name}={getattr(self, name)}")
        if self.batch_size % self.accumulate_steps:
            raise ValueError(
                "`accumulate_steps` must divide `batch_size`. "
                f"Received: accumulate_steps={self.accumulate_steps}, batch_size={self.batch_size}"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"`learning_rate` must be positive. Received: learning_rate={self.learning_rate}")
        _check_choice(self, optimizer=OPTIMIZERS, schedule=SCHEDULES, decay_mode=DECAY_MODES)
        for name in ("backbone_rate", "weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {name}={getattr(self, name)}")
        for name in ("momentum", "square_momentum", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={getattr(self, name)}")
        if not 0 <= self.frozen_stages <= 5:
            raise ValueError(f"`frozen_stages` must be in [0, 5]. Received: frozen_stages={self.frozen_stages}")
        if not 0 <= self.warmup < 1 or any(not 0 < m <= 1 for m in self.milestones):
            raise ValueError(
                "`warmup` and `milestones` are shares of the run, in [0, 1). "
                f"Received: warmup={self.warmup}, milestones={self.milestones}"
            )
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"`milestones` must rise. Received: milestones={self.milestones}")


@dataclasses.dataclass(frozen=True)
class Detection:
    """What becomes of the network's outputs.

    Attributes:
        score_threshold: detections under this score are dropped.
        iou_threshold: of non-maximum suppression.
        max_faces: most faces returned an image.
        max_candidates: best-scored anchors an image that enter non-maximum suppression.
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


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment: everything that `config.json` in a workdir holds."""

    anchors: Anchors = Anchors()
    network: Network = Network()
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    training: Training = Training()
    detection: Detection = Detection()

    def to_dict(self) -> dict:
        """Returns nested plain dicts, ready for JSON."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Returns the text of a `config.json`."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict) -> Config:
        """Builds a config from nested dicts; the inverse of `to_dict`. A field left out keeps its default.

        Raises:
            ValueError: if a name is unknown or a value is out of range.
        """
        return _from_dict(cls, values, "")

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Builds a config from the text of a `config.json`."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def preset(cls, name: str) -> Config:
        """Returns the config of a named model of the paper or of a shipped preset's network.

        Raises:
            ValueError: if there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"`preset` must be one of {tuple(PRESETS)}. Received: preset={name!r}")
        return PRESETS[name]

    def replace(self, **fields) -> Config:
        """Returns a copy with fields of any section changed by their bare name.

        Args:
            **fields: `epochs=3` changes `run.epochs`; field names are unique over all sections.

        Raises:
            ValueError: if no section has the field or the value is out of range.
        """
        changes: dict[str, dict] = {}
        for name, value in fields.items():
            changes.setdefault(section_of(name), {})[name] = value
        return dataclasses.replace(
            self,
            **{section: dataclasses.replace(getattr(self, section), **values) for section, values in changes.items()},
        )


def section_of(name: str) -> str:
    """Returns the section of `Config` that holds the field `name`.

    Raises:
        ValueError: if none does.
    """
    for section in dataclasses.fields(Config):
        if any(field.name == name for field in dataclasses.fields(section.default)):
            return section.name
    raise ValueError(f"no section of Config has a field {name!r}")


def parse(name: str, text: str):
    """Reads the value of a field from a flag's text, by the type of the field's default.

    Args:
        name: of a field of any section.
        text: a number, a word, `true` or `false`; numbers of a tuple are separated by commas, tuples of a tuple by
            semicolons.

    Raises:
        ValueError: if the text does not fit the field; names it.
    """
    default = getattr(getattr(Config(), section_of(name)), name)
    try:
        return _parse(default, text)
    except ValueError as error:
        raise ValueError(f"`{name}` must be like {_format(default)!r}. Received: {text!r}") from error


def describe_fields() -> dict[str, str]:
    """Returns what the docstrings say of every field, by name; the scripts' help."""
    described = {}
    for section in dataclasses.fields(Config):
        text = inspect.getdoc(type(section.default)).split("Attributes:\n", 1)[1]
        for name, words in re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE):
            described[name] = re.sub(r"\s+", " ", words)
    return described


def _parse(default, text: str):
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if not isinstance(default, tuple):
        return type(default)(text)
    separator = ";" if isinstance(default[0], tuple) else ","
    return tuple(_parse(default[0], part.strip()) for part in text.split(separator))


def _format(value) -> str:
    if not isinstance(value, tuple):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return (";" if isinstance(value[0], tuple) else ",").join(_format(item) for item in value)


def _from_dict(cls, values, where: str):
    if not isinstance(values, dict):
        raise ValueError(f"config: `{where or 'the whole'}` must be an object. Received: {values!r}")
    hints = typing.get_type_hints(cls) if not where else {}
    known = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        prefix = f"{where}." if where else ""
        raise ValueError(f"config: unknown field `{prefix}{unknown[0]}`; known: {sorted(known)}")
    return cls(
        **{
            name: _from_dict(hints[name], value, name) if not where else _typed(name, known[name].default, value)
            for name, value in values.items()
        }
    )


def _typed(name: str, default, value):
    """Returns the value of a field if it is of the kind of the default."""
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        # JSON has no tuples, and lists would make the frozen config unhashable.
        return tuple(_typed(name, default[0], item) for item in value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        raise ValueError(f"config: `{name}` must be like {_format(default)!r}. Received: {value!r:.80}")
    if isinstance(value, (int, float)) and not -_LARGEST <= value <= _LARGEST:  # nor is "not a number"
        raise ValueError(f"config: `{name}` must be a finite number. Received: {value!r:.80}")
    return value


def _octave_sizes(strides: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
    # The paper's table 1: three sizes a level, a third of an octave apart, starting at four strides.
    return tuple(tuple(4 * stride * 2 ** (k / 3) for k in range(3)) for stride in strides)


_PAPER_STRIDES = (4, 8, 16, 32, 64)
_PAPER_ANCHORS = Anchors(strides=_PAPER_STRIDES, sizes=_octave_sizes(_PAPER_STRIDES))
_MOBILENET025 = Config()
_MOBILENET025_DENSE = _MOBILENET025.replace(dense=True, dense_channels=64)
_MOBILENET025_FAST = _MOBILENET025.replace(pyramid_channels=32)


def _paper(backbone: str) -> Config:
    return Config(
        anchors=_PAPER_ANCHORS,
        network=Network(
            backbone=backbone, pyramid_channels=256, negative_slope=0.0, use_shared_heads=True, use_deformable=True
        ),
    )


PRESETS = {
    "mobilenet025": _MOBILENET025,
    "mobilenet025_public": _MOBILENET025,
    "mobilenet025_dense": _MOBILENET025_DENSE,
    "mobilenet025_fast": _MOBILENET025_FAST,
    "paper_resnet50": _paper("resnet50"),
    "paper_resnet152": _paper("resnet152"),
}
