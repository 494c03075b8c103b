import threading
from concurrent import futures

import pytest

from keras_retinaface.inference import pool


def test_items_are_made_when_wanted_and_no_thread_shares_one():
    in_use, most, made, lock = set(), [0], [], threading.Lock()
    everyone = threading.Barrier(3)

    def make():
        made.append(object())
        return made[-1]

    lent = pool.Pool(make, limit=3)

    def use(index):
        with lent.lend() as item:
            with lock:
                assert item not in in_use
                in_use.add(item)
                most[0] = max(most[0], len(in_use))
            if index < 3:
                everyone.wait(10)  # three at once, or this breaks
            with lock:
                in_use.discard(item)

    with lent.lend() as first:
        pass
    with lent.lend() as again:
        assert again is first and len(made) == 1
    with futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(100)))
    assert len(made) == 3 and most[0] == 3


def test_what_cannot_be_made_takes_no_place():
    answers = [ValueError("damaged"), "item"]

    def make():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    lent = pool.Pool(make, limit=1)
    with pytest.raises(ValueError, match="damaged"):
        with lent.lend():
            pass
    with lent.lend() as item:
        assert item == "item"
    with pytest.raises(KeyError), lent.lend():
        raise KeyError
    with lent.lend() as item:  # came back from the error
        assert item == "item"


def test_a_limit_of_none_is_refused():
    with pytest.raises(ValueError, match="`limit` must be at least 1. Received: limit=0"):
        pool.Pool(object, 0)
