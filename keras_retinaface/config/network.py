"""Where anchors stand, and what the network is built of."""

from __future__ import annotations

import dataclasses

from keras_retinaface.config import choice


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Where anchors stand and how faces are matched to them.

    Attributes:
        strides: pixels between anchor centres, one per pyramid level, each twice the one before.
        sizes: side lengths of the square anchors in pixels, one tuple per level.
        variances: divisors of the encoded (centre, size) offsets; (1, 1) is plain Fast R-CNN. Landmark offsets use the
            first.
        assignment: who gives anchors to faces: the "paper" by their overlaps, as the fields below say, or "dynamic",
            the network's own outputs, see `network.assignment`, which reads none of them.
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

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the pyramid: stride 8 is P3."""
        return tuple(stride.bit_length() - 1 for stride in self.strides)

    def __post_init__(self):
        choice.check(self, assignment=choice.ASSIGNMENTS)
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
        backbone: one of `BACKBONES`. mobilenet025 to mobilenet100 are MobileNetV1 of a quarter, half and whole width,
            mobilenet_v2_160 ends before the block of 320 channels, mobilenet_v2_1280 with its convolution to 1280,
            resnet50_v2 has norms before its convolutions.
        backbone_layout: whose form a ResNet or MobileNetV2 has, "torchvision" or "keras" (`keras.applications`): where
            it strides and pads; weights of one are wrong in the other.
        image_mean: mean red, green and blue, 0..255, that the first layer takes away; empty for what the backbone's
            public weights expect.
        pyramid_channels: channels of every pyramid level and context module.
        context_channels: channels of every context module where they are not those of the pyramid; 0 where they are.
        negative_slope: slope under 0 of the leaky ReLU in backbone (MobileNetV1 only), pyramid and context; 0 is plain
            ReLU.
        use_plain_pyramid: whether pyramid and context have plain ReLUs, and `negative_slope` is the backbone's alone.
        use_shared_heads: one set of head convolutions for all levels, as in the paper, or one per level.
        dense: whether there is a dense head: code, camera and light of a mesh for every anchor. Detection alone does
            without it.
        dense_channels: channels of the dense head's own tower on context features and image, see `layers.mesh_tower`; 0
            for the paper's 1x1 convolution on context features alone.
        use_deformable: whether the 3x3 convolutions of lateral connections and context modules are deformable.
        deform_tile: output locations that a deformable convolution samples at once; less is less memory.
        deform_sampler: how it samples: "sparse" is fastest on a CPU, "gather" is for accelerators, "auto" goes by the
            machine's devices.
    """

    backbone: str = "mobilenet025"
    backbone_layout: str = "torchvision"
    image_mean: tuple[float, ...] = ()
    pyramid_channels: int = 64
    context_channels: int = 0
    negative_slope: float = 0.1
    use_plain_pyramid: bool = False
    use_shared_heads: bool = False
    dense: bool = False
    dense_channels: int = 0
    use_deformable: bool = False
    deform_tile: int = 4096
    deform_sampler: str = "auto"

    def __post_init__(self):
        choice.check(
            self, backbone=choice.BACKBONES, backbone_layout=choice.LAYOUTS, deform_sampler=choice.DEFORM_SAMPLERS
        )
        if self.deform_tile < 1:
            raise ValueError(f"`deform_tile` must be 1 or more. Received: deform_tile={self.deform_tile}")
        if self.pyramid_channels <= 0 or self.pyramid_channels % 4:
            raise ValueError(
                "`pyramid_channels` must be a positive multiple of 4. "
                f"Received: pyramid_channels={self.pyramid_channels}"
            )
        if self.context_channels < 0 or self.context_channels % 4:
            raise ValueError(
                f"`context_channels` must be a multiple of 4, or 0. Received: context_channels={self.context_channels}"
            )
        if len(self.image_mean) not in (0, 3):
            raise ValueError(f"`image_mean` must be three numbers or none. Received: image_mean={self.image_mean}")
        if self.dense_channels < 0:
            raise ValueError(f"`dense_channels` must not be negative. Received: dense_channels={self.dense_channels}")
        if not 0 <= self.negative_slope < 1:
            raise ValueError(f"`negative_slope` must be in [0, 1). Received: negative_slope={self.negative_slope}")
