import random

import pytest

from tests.fuzz import damage

_CONTENT = b"\xff\xd8Exif\0\0II*\0" + bytes(range(256)) * 20


@pytest.mark.parametrize("way", damage.WAYS, ids=lambda way: way.__name__)
def test_every_way_changes_and_one_seed_gives_one_result(way):
    results = []
    for _ in range(2):
        content = bytearray(_CONTENT)
        way(content, random.Random(3))
        results.append(bytes(content))
    assert results[0] == results[1] != _CONTENT


def test_short_and_glued_contents():
    rng = random.Random(0)
    for length in (1, 2, 3):
        for _ in range(200):
            damage.damage(_CONTENT[:length], rng)
    assert any(damage.damage(_CONTENT, rng, b"other").endswith(b"other") for _ in range(200))
