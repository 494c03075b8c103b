import pytest

from data_pipeline import order


def _pairs(count, num_records=7, seed=0, start=0, num_workers=1, worker=0):
    pairs = order.endless(num_records, seed, start, num_workers, worker).take(count)
    return [(int(position), int(record)) for position, record in pairs]


@pytest.mark.parametrize("num_records", [1, 2, 7, 300])
def test_every_epoch_holds_every_record_once(num_records):
    pairs = _pairs(3 * num_records, num_records)
    assert [position for position, _ in pairs] == list(range(3 * num_records))
    epochs = [[record for _, record in pairs[at : at + num_records]] for at in range(0, len(pairs), num_records)]
    assert all(sorted(epoch) == list(range(num_records)) for epoch in epochs)
    assert num_records < 7 or epochs[0] != epochs[1] != epochs[2]


def test_workers_share_what_one_would_see():
    alone = _pairs(21)
    together = [_pairs(7, num_workers=3, worker=worker) for worker in range(3)]
    assert sorted(pair for pairs in together for pair in pairs) == alone


def test_a_later_start_leaves_out_pairs_of_this_worker():
    assert _pairs(5, start=9) == _pairs(14)[9:]
    assert _pairs(5, start=2, num_workers=2, worker=1) == _pairs(7, num_workers=2, worker=1)[2:]


def test_low_and_high_bits_of_the_seed_count():
    seeds = (0, 1, 1 << 30, 1 << 31, 1 << 45, 1 << 61, -2)
    assert len({tuple(_pairs(30, num_records=30, seed=seed)) for seed in seeds}) == len(seeds)
    assert _pairs(7, seed=1 << 45) == _pairs(7, seed=1 << 45)
