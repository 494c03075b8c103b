import pathlib
import re
import socket
import subprocess
import sys

import pytest

from data_pipeline import dataset
from keras_retinaface import config as config_lib
from tests import ports, train_runs

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def start(tmp_path):
    """Starts servers that do not outlive the test; returns their process and the address that they name."""
    processes = []

    def start(*options):
        command = [sys.executable, "-W", "ignore", "-m", "data_pipeline.serve", *options]
        path = tmp_path / f"server{len(processes)}.log"
        with open(path, "w") as log:
            processes.append(subprocess.Popen(command, cwd=ROOT, stderr=log))
        train_runs.wait_for(lambda: "data_service=" in path.read_text(), processes[-1], path)
        return processes[-1], re.search(r"data_service=(\S+)", path.read_text()).group(1)

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.long
def test_batches_come_from_two_servers_and_go_on_when_one_is_killed(photos, start):
    # The default port, where nobody has it.
    with socket.socket() as probe:
        is_free = probe.connect_ex(("127.0.0.1", 5000)) != 0
    _, address = start(*([] if is_free else ["--port=0"]))
    second, same = start(f"--dispatcher={address}")
    assert same == address
    ports.assert_closed_to_others(int(address.rsplit(":", 1)[1]))
    config = config_lib.Config().replace(image_size=(64, 64), batch_size=2, photometric_probability=1.0)
    batches = iter(
        dataset.make_dataset(config, str(photos), str(photos / "label.txt"), data_service=address, with_names=True)
    )

    def names(num_batches):
        return {name for _ in range(num_batches) for name in next(batches)[1]["image_name"].numpy()}

    assert len(names(12)) == 7
    second.kill()
    second.wait()
    # More than what the dead one had handed over; the next rounds have its images again.
    assert len(names(60)) == 7


def _wait_for_more(run, num_steps, process, log):
    def last():
        return max(train_runs.steps(run), default=0)

    wanted = last() + num_steps
    train_runs.wait_for(lambda: last() >= wanted, process, log)


@pytest.mark.long
@pytest.mark.slow
def test_a_training_outlives_one_server_and_ends_when_the_last_is_killed(tmp_path, start):
    folder, run, log = train_runs.write_images(tmp_path / "images"), tmp_path / "run", tmp_path / "log"
    first, address = start("--port=0")
    second, _ = start(f"--dispatcher={address}")
    flags = f"--data_service={address}", "--worker_timeout=90", "--save_every=1", "--epochs=1000", "--ema_decay=0"
    process = train_runs.start(folder, run, *flags, log=log)
    try:
        for server in (second, first):
            # What was made before lies ready; a queue holds far fewer than this.
            _wait_for_more(run, 40, process, log)
            server.kill()
            server.wait()
        assert process.wait(timeout=300) == 1
    finally:
        process.kill()
        process.wait()
    last = log.read_text().splitlines()[-1]
    assert "no step for 90 seconds: no server of --data_service makes batches" in last
    assert "start the servers, then the same command to go on from the last checkpoint" in last
