from keras_retinaface.cli import tally as tally_lib


def test_the_first_image_is_timed_apart():
    tally = tally_lib.Tally()
    assert tally.times() == f"{'-':>9} {'-':>9}"
    tally.took(2.0)
    assert tally.times() == f"{'2000.0':>9} {'-':>9}"
    for seconds in (0.01, 0.03):
        tally.took(seconds)
    assert tally.times() == f"{'2000.0':>9} {'20.0':>9}"


def test_what_was_not_read_or_written_is_a_fault_of_the_run():
    assert tally_lib.Tally(images=3, faces=9).status() == 0
    assert tally_lib.Tally(images=3, broken=1).status() == tally_lib.Tally(images=3, unwritten=1).status() == 1
