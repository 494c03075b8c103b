"""How long, how fast and with what optimizer a network learns."""

from __future__ import annotations

import dataclasses

from keras_retinaface.config import choice


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
        momentum: momentum of SGD; of Adam that of the gradient.
        square_momentum: momentum of the squared gradient in Adam.
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
        seed: seed of weights, order of samples and augmentation.
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
        choice.check(self, optimizer=choice.OPTIMIZERS, schedule=choice.SCHEDULES, decay_mode=choice.DECAY_MODES)
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
