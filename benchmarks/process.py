"""What a measured process says of itself. Standard library only, because torch's environment imports it too."""

import contextlib
import json
import pathlib
import sys


def peak_memory() -> float:
    """Returns the largest resident set of this process so far, MiB."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def answer(**values) -> None:
    """Writes one line of JSON to whoever waits for it."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def tree(pid: int) -> list[int]:
    """Returns a process and all that it and its children have started, as far as they still run."""
    pids = [pid]
    for one in pids:
        for path in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids += map(int, path.read_text().split())
    return pids


def memory(pid: int) -> float:
    """Returns what a process and all that it has started hold now, MiB; pages that several share count once."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError, StopIteration):
            lines = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024
