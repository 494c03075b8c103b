"""The feature pyramid: top-down path with lateral connections."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from keras_retinaface.layers import convolution


@keras.saving.register_keras_serializable(package="keras_retinaface")
class UpsampleLike(keras.layers.Layer):
    """Repeats pixels until a feature map has the size of another; odd sizes lose the last repeat.

    The index of a source pixel is rounded down, as in PyTorch's nearest interpolation and unlike `tf.image.resize`.
    """

    def call(self, inputs):
        """Upsamples `[B, h, w, C]` to the height and width of `[B, H, W, _]`.

        Args:
            inputs: the feature map and the one that gives the size.

        Returns:
            `[B, H, W, C]`.
        """
        x, reference = inputs
        size = tf.shape(reference)[1:3]
        return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size, align_corners=False, half_pixel_centers=False)

    def compute_output_shape(self, input_shape):
        """Returns the size of the second input with the channels of the first."""
        x, reference = input_shape
        return (*reference[:3], x[3])


def build(
    features: dict, channels: int, *, negative_slope: float, num_extra: int = 0, deformable: Mapping | None = None
) -> dict:
    """Builds pyramid levels from backbone features.

    Args:
        features: maps by name, `C3` and so on, each half the size of the one before.
        channels: number of channels of every level.
        negative_slope: slope under 0 of the leaky ReLUs.
        num_extra: levels above the last map: the first comes from it, each further one from the one below.
        deformable: arguments of `DeformableConv2D` for the convolutions behind the merges, or None for ordinary ones.

    Returns:
        Maps by name, `P3` and so on, `[B, H/stride, W/stride, channels]`.

    Source: Feature Pyramid Networks (Lin et al., 2017); a 3x3 convolution follows every merge, as in the public
    RetinaFace weights, and the merged map is what goes further down.
    """
    levels = sorted(int(name[1:]) for name in features)
    pyramid: dict = {}
    for level in reversed(levels):
        x = convolution.conv_norm(
            features[f"C{level}"], channels, 1, negative_slope=negative_slope, name=f"lateral_P{level}"
        )
        if pyramid:
            above = UpsampleLike(name=f"upsample_P{level}")([pyramid[f"P{level + 1}"], x])
            x = keras.layers.Add(name=f"add_P{level}")([x, above])
            x = convolution.conv_norm(
                x, channels, 3, deformable=deformable, negative_slope=negative_slope, name=f"merge_P{level}"
            )
        pyramid[f"P{level}"] = x
    x = features[f"C{levels[-1]}"]
    for level in range(levels[-1] + 1, levels[-1] + 1 + num_extra):
        # Keras initialises kernels as Xavier did, which is what the paper asks for here.
        x = convolution.conv_norm(x, channels, 3, stride=2, negative_slope=negative_slope, name=f"extra_P{level}")
        pyramid[f"P{level}"] = x
    return {name: pyramid[name] for name in sorted(pyramid)}
