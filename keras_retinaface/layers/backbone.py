"""Feature extractors: image in, feature maps C2..C5 out."""

from __future__ import annotations

from keras_retinaface.layers import convolution

# (filters, stride) of the depthwise-separable blocks of MobileNetV1 at width 0.25; the stages of the public layout.
_MOBILENET025_STAGES = {
    "stage1": ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),
    "stage2": ((128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1)),
    "stage3": ((256, 2), (256, 1)),
}


def mobilenet025(x, negative_slope: float) -> dict:
    """Builds MobileNetV1 at width 0.25 without its classifier.

    Args:
        x: `[B, H, W, 3]`, preprocessed.
        negative_slope: of its leaky ReLUs.

    Returns:
        Feature maps by name: C2 `[B, H/4, W/4, 32]`, C3 64 channels, C4 128, C5 256, sizes rounded up.

    Source: MobileNets (Howard et al., 2017).
    """
    x = convolution.conv_norm(x, 8, 3, stride=2, negative_slope=negative_slope, name="stage1_0")
    features = {}
    level = 1  # log2 of the stride so far
    for stage, blocks in _MOBILENET025_STAGES.items():
        first = 1 if stage == "stage1" else 0
        for index, (filters, stride) in enumerate(blocks, start=first):
            name = f"{stage}_{index}"
            x = convolution.depthwise_norm(x, 3, stride=stride, negative_slope=negative_slope, name=f"{name}_depthwise")
            x = convolution.conv_norm(x, filters, 1, negative_slope=negative_slope, name=f"{name}_pointwise")
            level += stride == 2
            features[f"C{level}"] = x
    return {name: features[name] for name in ("C2", "C3", "C4", "C5")}


def build(name: str, x, *, negative_slope: float) -> dict:
    """Builds a backbone by name.

    Args:
        name: one of `config.BACKBONES`.
        x: `[B, H, W, 3]`, preprocessed.
        negative_slope: of its leaky ReLUs, where it has any.

    Returns:
        Feature maps by name, C2 (stride 4) to C5 (stride 32).

    Raises:
        ValueError: if there is no such backbone.
    """
    if name == "mobilenet025":
        return mobilenet025(x, negative_slope)
    raise ValueError(f"`backbone` is not built yet. Received: backbone={name!r}")
