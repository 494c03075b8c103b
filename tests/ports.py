"""Who reaches a port of this machine, for tests."""

import contextlib
import json
import socket

import pytest


def own_address():
    """Returns the address by which other machines reach this one; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return probe.getsockname()[0]


def assert_closed_to_others(port):
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(OSError):
        socket.create_connection((own_address(), port), timeout=0.5)


def cluster(num_workers):
    """Returns the TF_CONFIG of each of some workers of this machine."""
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in range(num_workers)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in free]
    tasks = ({"type": "worker", "index": index} for index in range(num_workers))
    return [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]
