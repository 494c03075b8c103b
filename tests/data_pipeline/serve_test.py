import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

from data_pipeline import dataset
from keras_retinaface import config as config_lib
from tests import ports

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


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
        ports.assert_closed_to_others(int(address.rsplit(":", 1)[1]))
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
