"""Which layers of a network an int8 file leaves in float32."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

# The first maps of MobileNetV1 are large and have few channels: there int8 gains no time, and there much of its error
# is made. Other backbones have no layers of these names, and theirs become int8.
FIRST_MAPS = ("stage1_0*", "stage1_1*", "stage1_2*")


def choose(layers: Sequence[str], asked: Sequence[str] | None, usual: Sequence[str]) -> set[str]:
    """Returns the names of the layers, which takes no conversion to know.

    Args:
        layers: names of the network's layers.
        asked: names or patterns of those that stay in float32; None is those of `usual` that the network has.
        usual: patterns.

    Raises:
        ValueError: if one that is asked for matches none of the network.
    """
    unknown = [pattern for pattern in asked or () if not fnmatch.filter(layers, pattern)]
    if unknown:
        raise ValueError(f"`float_layers` must match layers of the network. Received: {unknown}, which match none")
    return {name for pattern in (usual if asked is None else asked) for name in fnmatch.filter(layers, pattern)}
