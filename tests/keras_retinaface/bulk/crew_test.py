import dataclasses
import multiprocessing.spawn
import os
import signal
import sys
import time

import pytest

from keras_retinaface.bulk import crew, job
from keras_retinaface.inference import runtime


@dataclasses.dataclass
class _Job:
    """Stands where a `job.Job` does; what an item is called is done to it."""

    folder: str = ""

    def open(self):
        if self.folder == "nowhere":
            raise ValueError("no model there")
        if self.folder == "environment":
            raise ValueError(os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH"))

    def run(self, items):
        for item in items:
            if item.name.startswith("slow"):
                time.sleep(0.2)
            if item.name.startswith("killer"):
                os.kill(os.getpid(), signal.SIGKILL)
            if item.name.startswith("once"):  # as one that another process's hunger took down
                try:
                    os.close(os.open(os.path.join(self.folder, item.name), os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return [job.Outcome({"image": item.name}) for item in items]


@pytest.mark.parametrize(("num_processes", "num_threads", "batch_size"), [(2, 1, 1), (1, 2, 3)])
def test_outcomes_come_in_order_and_a_killer_costs_itself_alone(tmp_path, num_processes, num_threads, batch_size):
    names = [f"{index}" for index in range(60)]
    names[3], names[7], names[20], names[40] = "slow", "killer", "once", "killer too"
    items = [job.Item(name) for name in names]
    made = crew.run(
        _Job(str(tmp_path)), items, num_processes=num_processes, num_threads=num_threads, batch_size=batch_size
    )
    lines = [outcome.line for outcome in made]
    assert [line["image"] for line in lines] == names
    assert {line["image"] for line in lines if "error" in line} == {"killer", "killer too"}
    assert lines[7]["error"] == "killer: its worker ended by signal 9 twice, as when memory is short"


def test_of_many_items_few_are_held():
    taken = []

    def items():
        for index in range(10_000):
            taken.append(index)
            yield job.Item(str(index))

    made = crew.run(_Job(), items(), num_processes=1)
    assert [next(made).line["image"] for _ in range(5)] == ["0", "1", "2", "3", "4"]
    assert len(taken) < 40
    made.close()


def test_a_model_that_does_not_open_is_an_error_and_no_items_are_no_workers():
    with pytest.raises(ValueError, match="^no model there$"):
        list(crew.run(_Job("nowhere"), [job.Item("a")], num_processes=2))
    assert list(crew.run(_Job("nowhere"), [], num_processes=2)) == []


def test_what_runs_without_tensorflow_gets_processes_and_tensorflow_threads(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # with it here, a preset would run by it
    for model in ("retinaface.tflite", "retinaface.onnx", "mobilenet025"):
        assert crew.split(model, 3, None) == (3, 1)
        assert crew.split(model, None, runtime.num_cores()) == (1, 1)
    assert crew.split("mobilenet025_fast", 3, None) == (1, 3)


def test_a_model_is_checked_in_a_process_that_ends():
    crew.check(_Job())
    with pytest.raises(ValueError, match="^no model there$"):
        crew.check(_Job("nowhere"))
    with pytest.raises(ValueError, match="^true$"):  # several workers share a GPU
        crew.check(_Job("environment"))
    assert not multiprocessing.active_children()


def test_workers_pass_over_ctrl_c_before_they_run(monkeypatch):
    import_first = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    monkeypatch.setattr(multiprocessing.spawn, "get_command_line", _command_with(import_first))
    before = signal.getsignal(signal.SIGINT)
    assert [outcome.line for outcome in crew.run(_Job(), [job.Item("a")], num_processes=1)] == [{"image": "a"}]
    assert signal.getsignal(signal.SIGINT) is before


def _command_with(code):
    given = multiprocessing.spawn.get_command_line

    def command(**arguments):
        *options, _, what, fork = given(**arguments)
        return [*options, "-c", f"{code}; {what}", fork]

    return command
