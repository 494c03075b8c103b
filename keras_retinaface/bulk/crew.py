"""Workers in processes of their own: outcomes in the order of the items, and a worker that dies costs one image.

What was in flight when a worker died is tried again, each image alone; one that its worker dies of a second time gets
an outcome that says so. Memory is flat: of any number of items, a few per worker are held.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from absl import logging

from keras_retinaface.bulk import job as job_lib
from keras_retinaface.inference import runtime

# Batches a worker that may be done before the first of them: enough to go on beside a slow image.
_AHEAD = 8
# Deaths in a row before a worker could take its first image.
_MOST_STILLBORN = 3
# TensorFlow takes all cores for one image; a second is read and written meanwhile.
_TENSORFLOW_THREADS = 2


class _Task(NamedTuple):
    """A batch, or what is left of it; `place` is that of its first item in the batch."""

    batch: int
    place: int
    items: Sequence[job_lib.Item]
    is_suspect: bool = False


class _Worker:
    """A process and its end of the line."""

    def __init__(self, job: job_lib.Job, num_threads: int):
        context = multiprocessing.get_context("spawn")  # a fork would inherit half of TensorFlow
        self.line, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, job, num_threads), daemon=True)
        with _passing_over_ctrl_c():
            self.process.start()
        other.close()
        self.is_ready, self.tasks, self._num_threads = False, {}, num_threads

    def can_take(self, task: _Task) -> bool:
        """Returns whether it has room; a suspect wants it all, and so shows who kills."""
        if not self.is_ready or any(other.is_suspect for other in self.tasks.values()):
            return False
        return not self.tasks if task.is_suspect else len(self.tasks) < self._num_threads

    def give(self, task: _Task) -> None:
        """Hands over a task; a worker that is already dead shows at the next look."""
        self.tasks[task.batch, task.place] = task
        with contextlib.suppress(OSError):
            self.line.send(task)

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self.line.close()
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextlib.contextmanager
def _passing_over_ctrl_c() -> Iterator[None]:
    """Lets a process that starts pass over Ctrl-C from its first import on, where each would print a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def split(model: str, num_workers: int | None, num_threads: int | None) -> tuple[int, int]:
    """Returns how many processes do a model's work, and how many images each has at a time.

    Args:
        model: a file or a preset.
        num_workers: images at the same time; None is what was measured best.
        num_threads: threads of the network, or None.
    """
    if runtime.runs_without_tensorflow(model):  # one thread of theirs a core is faster than more on each
        return num_workers or max(1, runtime.num_cores() // (num_threads or 1)), 1
    return 1, num_workers or _TENSORFLOW_THREADS


def run_here(job: job_lib.Job, items: Iterable[job_lib.Item], batch_size: int = 1) -> Iterator[job_lib.Outcome]:
    """Yields outcomes in order, in this process, one batch after the other."""
    job.open()
    for batch in _batches(items, batch_size):
        yield from job.run(batch)


def run(
    job: job_lib.Job,
    items: Iterable[job_lib.Item],
    *,
    num_processes: int,
    num_threads: int = 1,
    batch_size: int = 1,
) -> Iterator[job_lib.Outcome]:
    """Yields outcomes in order.

    Args:
        job: what is done; each process opens it once.
        items: any number; taken as they are needed.
        num_processes: workers.
        num_threads: batches that each has at the same time.
        batch_size: items that go through the network together.

    Raises:
        ValueError: if a worker cannot open the model; says why.
    """
    crew = Crew(job, num_processes, num_threads)
    try:
        yield from crew.run(items, batch_size)
    finally:
        crew.end()


def check(job: job_lib.Job) -> None:
    """Opens the model in a process that ends, so that this one holds no memory of a GPU.

    Raises:
        ValueError: if it cannot be opened; says why.
    """
    crew = Crew(job, 1, 1)
    try:
        crew.wait()
    finally:
        crew.end()


class Crew:
    """The workers, and who has what; they stay from one run to the next.

    Args:
        job: what is done; each process opens it once.
        num_processes: workers.
        num_threads: batches that each has at the same time.
    """

    def __init__(self, job: job_lib.Job, num_processes: int, num_threads: int):
        self._job, self._num_threads = job, num_threads
        self._most_held = _AHEAD * num_processes * num_threads
        self._held: dict[int, list] = {}
        self._suspects: collections.deque[_Task] = collections.deque()
        self._num_stillborn = 0
        self._workers: list[_Worker] = []
        self._num_processes = num_processes

    def run(self, items: Iterable[job_lib.Item], batch_size: int = 1) -> Iterator[job_lib.Outcome]:
        """Yields outcomes in order, as the function `run` does; one run at a time, to its end."""
        tasks = (_Task(number, 0, batch) for number, batch in enumerate(_batches(items, batch_size)))
        following, first = next(tasks, None), 0
        if following is not None:
            self._start()
        while following is not None or self._held:
            self._give_suspects()
            while following is not None and following.batch < first + self._most_held and self._give(following):
                self._held[following.batch] = [None] * len(following.items)
                following = next(tasks, None)
            self._listen()
            while first in self._held and None not in self._held[first]:
                yield from self._held.pop(first)
                first += 1

    def wait(self) -> None:
        """Starts the workers, and waits until all have opened the model; errors as of `run`."""
        self._start()
        while not all(worker.is_ready for worker in self._workers):
            self._listen()

    def end(self) -> None:
        """Ends the workers."""
        for worker in self._workers:
            worker.end()

    def _start(self) -> None:
        if not self._workers:
            self._workers = [_Worker(self._job, self._num_threads) for _ in range(self._num_processes)]

    def _give(self, task: _Task) -> bool:
        free = [worker for worker in self._workers if worker.can_take(task)]
        if free:
            min(free, key=lambda worker: len(worker.tasks)).give(task)
        return bool(free)

    def _give_suspects(self) -> None:
        while self._suspects and self._give(self._suspects[0]):
            self._suspects.popleft()

    def _listen(self) -> None:
        """Waits for something to come from the workers, and takes it in."""
        by_line = {worker.line: worker for worker in self._workers}
        for line in multiprocessing.connection.wait(list(by_line)):
            try:
                said = line.recv()
            except (EOFError, OSError):
                self._bury(by_line[line])
                continue
            self._hear(by_line[line], *said)

    def _hear(self, worker: _Worker, kind: str, *said) -> None:
        if kind == "failed":
            raise ValueError(said[0])
        if kind == "ready":
            worker.is_ready, self._num_stillborn = True, 0
            return
        batch, place, outcomes = said
        del worker.tasks[batch, place]
        self._held[batch][place : place + len(outcomes)] = outcomes

    def _bury(self, worker: _Worker) -> None:
        """Puts another in its place; what it had is tried again, or given up if it was alone with it."""
        worker.end()
        code = worker.process.exitcode
        how = f"ended by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        if not worker.is_ready:
            self._num_stillborn += 1
            if self._num_stillborn >= _MOST_STILLBORN:
                raise ValueError(f"workers end before their first image: {how}; is there enough memory for --workers?")
        for task in worker.tasks.values():
            if task.is_suspect:
                said = f"{task.items[0].name}: its worker {how} twice, as when memory is short"
                self._held[task.batch][task.place] = job_lib.broken(task.items[0].name, said)
                continue
            for place, item in enumerate(task.items):
                logging.warning("%s: its worker %s; once more, alone", item.name, how)
                self._suspects.append(_Task(task.batch, place, [item], is_suspect=True))
        self._workers[self._workers.index(worker)] = _Worker(self._job, self._num_threads)


def _batches(items: Iterable[job_lib.Item], size: int) -> Iterator[list[job_lib.Item]]:
    iterator = iter(items)
    return iter(lambda: list(itertools.islice(iterator, size)), [])


def _work(line, job: job_lib.Job, num_threads: int) -> None:
    """What a worker does until nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; who is in charge ends the rest
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or the first worker takes all memory of a GPU
    try:
        job.open()
    except Exception as error:  # of any kind; the parent says it as its own
        line.send(("failed", str(error).strip() or type(error).__name__))
        return
    line.send(("ready",))
    lock = threading.Lock()

    def do(task: _Task) -> None:
        try:
            outcomes = job.run(task.items)
        except BaseException as error:
            outcomes = [
                job_lib.broken(item.name, f"{item.name}: {type(error).__name__}: {error}") for item in task.items
            ]
        with lock, contextlib.suppress(OSError):
            line.send(("done", task.batch, task.place, outcomes))

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        while True:
            try:
                task = line.recv()
            except (EOFError, OSError):
                os._exit(0)  # who is in charge is gone; nobody would take what is under way
            pool.submit(do, task)
