import socket
import sys

import pytest

from data_pipeline import loopback
from tests import ports


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
@pytest.mark.parametrize("family, address", [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_a_port_open_to_all_is_closed_to_others(family, address):
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        socket.create_connection((ports.own_address(), port), timeout=5).close()
        listener.accept()[0].close()
        assert port in loopback.ports()
        loopback.close_to_others(port)
        ports.assert_closed_to_others(port)
        if family == socket.AF_INET6:
            socket.create_connection(("::1", port), timeout=5).close()


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_who_was_faster_is_told():
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with (
            socket.create_connection((ports.own_address(), port), timeout=5),
            pytest.raises(OSError, match="connected to"),
        ):
            loopback.close_to_others(port)
