"""Which of several machines takes an image: by its path alone, so that no machine need know of another."""

from __future__ import annotations

import hashlib
import os
import re


def parse(text: str) -> tuple[int, int]:
    """Returns index and count of `I/N`.

    Args:
        text: I from 1 to N, or from 0 to N - 1, as schedulers count: 0 is N.

    Raises:
        ValueError: if it is not that.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    index, count = (int(match[1]), int(match[2])) if match else (1, 0)
    if index > count or not count:
        raise ValueError(f"`shard` must be I/N with I from 1 to N, or from 0 to N - 1. Received: {text!r}")
    return index % count, count


def takes(shard: tuple[int, int], path: str) -> bool:
    """Returns whether a shard takes a path, whatever stands beside it in the list; the path counts as it is spelled."""
    index, count = shard
    return count == 1 or key(path) % count == index


def key(path: str) -> int:
    """Returns 64 bits that stand for a path, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "little")
