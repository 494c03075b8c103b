"""Lends things that serve one thread at a time to many threads, and makes more of them when wanted, up to a limit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import typing
import weakref
from collections.abc import Callable, Iterator

Item = typing.TypeVar("Item")
# Those of this process, which a child of a fork must renew.
_pools: weakref.WeakSet = weakref.WeakSet()


class Pool(typing.Generic[Item]):
    """Items that one thread has at a time.

    Args:
        make: makes one more; called outside of the lock, so that several are made at once.
        limit: most items; further threads wait for one that comes back.
    """

    def __init__(self, make: Callable[[], Item], limit: int):
        if limit < 1:
            raise ValueError(f"`limit` must be at least 1. Received: limit={limit}")
        self._make, self._limit = make, limit
        self._renew()
        _pools.add(self)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Item]:
        """Lends an item for the length of a context, whatever its end; the one that came back last, for its memory."""
        item = self._take()
        try:
            yield item
        finally:
            self._give(item)

    def _take(self) -> Item:
        with self._changed:
            while not self._free and self._num_made >= self._limit:
                self._changed.wait()
            if self._free:
                return self._free.pop()
            self._num_made += 1
        try:
            item = self._make()
        except BaseException:
            with self._changed:
                self._num_made -= 1
                self._changed.notify()
            raise
        self._made.append(item)
        return item

    def _give(self, item: Item) -> None:
        with self._changed:
            self._free.append(item)
            self._changed.notify()

    def _renew(self) -> None:
        # The condition too: another thread of the parent may have held its lock at the moment of the fork.
        self._changed, self._free, self._num_made = threading.Condition(), [], 0
        self._made: list[Item] = []


def _renew_all() -> None:
    for pool in list(_pools):
        # Inherited items are neither used nor ever taken down: the threads that they wait for then are not here.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool._made))
        pool._renew()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_renew_all)
