import pytest

from keras_retinaface.bulk import shard


def test_every_path_is_in_one_shard_however_they_are_counted():
    paths = [f"photos/{index}.jpg" for index in range(4000)] + ["odd\udcff.jpg"]
    for first in (0, 1):
        shards = [shard.parse(f"{index}/16") for index in range(first, first + 16)]
        owners = [[number for number, one in enumerate(shards) if shard.takes(one, path)] for path in paths]
        assert all(len(owner) == 1 for owner in owners)
        counts = [sum(owner == [number] for owner in owners) for number in range(16)]
        assert 180 < min(counts) and max(counts) < 320


def test_the_split_is_the_same_everywhere_and_for_ever():
    # blake2b of eight bytes, little endian: hashlib.blake2b(b"a.jpg", digest_size=8).
    assert [path for path in ("a.jpg", "b.jpg", "c.jpg", "d.jpg") if shard.takes((1, 2), path)] == ["d.jpg"]


@pytest.mark.parametrize("text", ["", "3", "3/0", "17/16", "-1/4", "1/2/3", "a/b", "0/0"])
def test_other_shards_are_refused(text):
    with pytest.raises(ValueError, match="must be I/N with I from 1 to N, or from 0 to N - 1. Received: "):
        shard.parse(text)
