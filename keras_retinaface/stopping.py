"""How a command ends when it is stopped from outside: with what it has, one line and the status that shells expect."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from absl import logging

_INTERRUPTED = 128 + signal.SIGINT
# Python turns this signal into an error at the write that nobody reads; the number is that of every Unix.
_BROKEN_PIPE = 128 + 13


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end came; what Ctrl-C ends tidily, it ends tidily too."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise `Terminated`, in the main thread; one that is ignored, as by nohup, stays so."""

    def stop(number, frame):
        raise Terminated(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(function: Callable[[], int], *, hint: str = "") -> int:
    """Runs a command; what stops it becomes one line and an exit status.

    Args:
        function: returns the exit status.
        hint: said where a signal stops it, as how to go on.

    Returns:
        The status: 1 after a `ValueError` or `OSError`, 128 and the number of the signal after a signal.
    """
    try:
        with as_interrupts():
            return function()
    except KeyboardInterrupt as error:
        logging.error("stopped%s", hint)
        return status_of(error)
    except BrokenPipeError as error:
        return status_of(error)
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 1


def status_of(error: KeyboardInterrupt | BrokenPipeError) -> int:
    """Returns the exit status; after a broken pipe nothing more is written to the standard streams.

    Args:
        error: what stopped the command.
    """
    if isinstance(error, BrokenPipeError):
        # Python flushes both when it ends, and would say that it cannot.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or none of the system's
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return _BROKEN_PIPE
    return getattr(error, "status", _INTERRUPTED)
