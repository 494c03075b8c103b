import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

from data_pipeline import dataset, loopback
from keras_retinaface import config as config_lib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def _own_address():
    """Returns the address by which other machines reach this one; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return probe.getsockname()[0]


def _assert_closed(port):
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(OSError):
        socket.create_connection((_own_address(), port), timeout=0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
@pytest.mark.parametrize("family, address", [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_a_port_open_to_all_is_closed_to_others(family, address):
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        socket.create_connection((_own_address(), port), timeout=5).close()
        listener.accept()[0].close()
        assert port in loopback.ports()
        loopback.close_to_others(port)
        _assert_closed(port)
        if family == socket.AF_INET6:
            socket.create_connection(("::1", port), timeout=5).close()


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_who_was_faster_is_told():
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((_own_address(), port), timeout=5), pytest.raises(OSError, match="connected to"):
            loopback.close_to_others(port)


@pytest.mark.slow
def test_a_training_takes_its_batches_from_two_servers(photos, tmp_path):
    processes = []

    def start(*options):
        command = [sys.executable, "-W", "ignore", "-m", "data_pipeline.serve", *options]
        with open(tmp_path / f"{len(processes)}.log", "w") as log:
            processes.append(subprocess.Popen(command, cwd=ROOT, stderr=log))
        with open(tmp_path / f"{len(processes) - 1}.log") as log:
            text = ""
            while "data_service=" not in text:
                assert processes[-1].poll() is None, text
                time.sleep(0.2)
                text += log.read()
        return re.search(r"data_service=(\S+)", text).group(1)

    try:
        # The default port, where nobody has it.
        with socket.socket() as probe:
            is_free = probe.connect_ex(("127.0.0.1", 5000)) != 0
        address = start(*([] if is_free else ["--port=0"]))
        assert start(f"--dispatcher={address}") == address
        _assert_closed(int(address.rsplit(":", 1)[1]))
        config = config_lib.Config().replace(image_size=(64, 64), batch_size=2, photometric_probability=1.0)
        batches = dataset.make_dataset(
            config, str(photos), str(photos / "label.txt"), data_service=address, with_names=True
        )
        names = [name for _, targets in batches.take(12) for name in targets["image_name"].numpy()]
        assert len(set(names)) == 7
    finally:
        for process in processes:
            process.kill()
            process.wait()
