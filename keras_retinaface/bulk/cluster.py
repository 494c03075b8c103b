"""A run on several machines by Ray: actors that keep one detector each do units of the plan.

Ray Data's pools of actors are not taken: what they had given to an actor of a machine that was killed waited for that
same actor to come back, and it had nowhere to. Here the unit goes to whoever is free.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import logging

from keras_retinaface import extras
from keras_retinaface.bulk import crew, job, plan, rows, source
from keras_retinaface.media import image_file

# Times that a unit is begun before the run is given up; so many more actors than there are may end before one opens.
_MOST_TRIES = 5
_OBJECT_STORE = 100 << 20
# Images that a detector has at a time where they come from addresses: while one is looked at, others are on their way.
_FAR_THREADS = 4


def require() -> None:
    """Makes sure that Ray is there.

    Raises:
        ValueError: if not; says what to install.
    """
    extras.load("ray", "bulk")


@dataclasses.dataclass
class ReadEntry:
    """Reads the pixels of an item whose source is an entry of the plan."""

    max_pixels: int | None = None
    reader: source.Reader = dataclasses.field(default_factory=source.Reader)

    def __call__(self, item: job.Item) -> np.ndarray:
        """Returns its pixels."""
        if not item.source.container and not source.is_address(item.name):
            return image_file.read(item.name, max_pixels=self.max_pixels)
        return image_file.decode(self.reader.read(item.source), item.name, max_pixels=self.max_pixels)


class Worker:
    """Does units of a plan, each of which becomes a part; what Ray calls an actor.

    The detector lives in a process beside the actor, so that an image that kills it costs neither actor nor unit.

    Args:
        folder: folder of the run, which all machines see under this path.
        made: what is done with an image.
        batch_size: images that go through the network together.
    """

    def __init__(self, folder: str, made: job.Job, batch_size: int):
        self._folder, self._made, self._batch_size = pathlib.Path(folder), made, batch_size

    def open(self) -> None:
        """Opens the plan and the model; here, because Ray tells less of what a constructor raises.

        Raises:
            OSError: if this machine does not see the folder.
            ValueError: if it cannot open the model; says why.
        """
        self._plan = plan.Plan(self._folder)
        first = self._plan.read(0)[0]
        is_far = source.is_address(first.container or first.path)
        self._crew = crew.Crew(self._made, 1, _FAR_THREADS if is_far else 1)
        self._crew.wait()

    def do(self, unit: int) -> dict:
        """Does a unit; returns what its part holds."""
        items = [job.Item(entry.path, source=entry) for entry in self._plan.read(unit)]
        lines = [outcome.line for outcome in self._crew.run(items, self._batch_size)]
        rows.write_part(self._folder / plan.part_name(unit), lines)
        return rows.entry_of(plan.part_name(unit), lines)


def start(address: str | None) -> Callable[[], None]:
    """Connects to a cluster, or starts a Ray of this machine; returns what leaves it.

    Raises:
        ValueError: if there is none at the address.
    """
    import ray

    if ray.is_initialized():
        return lambda: None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Of one's own Ray: no dashboard, and little of the memory for objects, of which there are none.
    local = {} if address else {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    try:
        ray.init(address=address or "local", logging_level="ERROR", log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f"--address={address}: no Ray there: {str(error).strip().splitlines()[0]}") from error
    return ray.shutdown


def run(
    folder: str,
    units: Sequence[int],
    made: job.Job,
    *,
    num_actors: int,
    cpus_per_actor: float,
    gpus_per_actor: float,
    batch_size: int,
) -> Iterator[dict]:
    """Yields what units hold, as they are done, in any order.

    What a worker or a machine takes down is done by another; a part that is written twice is there once. An actor for
    which there is no room, as after a machine is gone for good, waits for a machine, and nothing waits for it.

    Raises:
        ValueError: if no machine has room for an actor, one cannot open the model, or a unit fails again and again.
    """
    import ray

    _check_room(cpus_per_actor, gpus_per_actor)
    make = ray.remote(Worker).options(num_cpus=cpus_per_actor, num_gpus=gpus_per_actor or None)
    logging.info("%d units on %d actors", len(units), num_actors)
    actors = _Actors(lambda: make.remote(folder, made, batch_size), units)
    for _ in range(num_actors):
        actors.employ()
    for _ in units:
        yield actors.next_done()


def _check_room(cpus: float, gpus: float) -> None:
    """Makes sure that an actor fits a machine, since Ray would wait for one in silence."""
    import ray

    rooms = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(room.get("CPU", 0) >= cpus and room.get("GPU", 0) >= gpus for room in rooms):
        raise ValueError(
            f"no machine of this Ray has the {cpus:g} CPUs and {gpus:g} GPUs of an actor: see --num_threads and "
            "--gpus_per_actor"
        )


class _Actors:
    """Who does what.

    Args:
        make: makes an actor.
        units: units to be done.
    """

    def __init__(self, make: Callable, units: Sequence[int]):
        self._make, self._waiting = make, collections.deque(units)
        self._idle: list = []
        self._under_way: dict = {}  # what will come -> the actor, and its unit or None while it opens the model
        self._tries: collections.Counter = collections.Counter()

    def employ(self) -> None:
        """Adds an actor."""
        actor = self._make()
        self._under_way[actor.open.remote()] = (actor, None)

    def next_done(self) -> dict:
        """Returns what the next unit that is done holds; one must be left."""
        import ray

        entry = None
        while entry is None:
            while self._waiting and self._idle:
                actor, unit = self._idle.pop(), self._waiting.popleft()
                self._under_way[actor.do.remote(unit)] = (actor, unit)
            (done,), _ = ray.wait(list(self._under_way), num_returns=1)
            actor, unit = self._under_way.pop(done)
            try:
                entry = ray.get(done)
            except ray.exceptions.RayError as error:  # of the task, or its worker or machine is gone, or cannot be told
                self._replace(actor, unit, error)
                continue
            self._tries.pop(unit, None)
            self._idle.append(actor)
        return entry

    def _replace(self, actor, unit: int | None, error: Exception) -> None:
        """Puts another in an actor's place; its unit goes to whoever is free next."""
        import ray

        ray.kill(actor)
        said, is_told = _told(error)
        self._tries[unit] += 1
        what = "an actor" if unit is None else plan.part_name(unit)
        limit = _MOST_TRIES + (len(self._under_way) if unit is None else 0)  # a machine takes all of its down at once
        if (unit is None and is_told) or self._tries[unit] >= limit:
            raise ValueError(f"{what}: {said}")
        logging.warning("%s: %s; once more", what, said)
        if unit is not None:
            self._waiting.appendleft(unit)
        self.employ()


def _told(error: Exception) -> tuple[str, bool]:
    """Returns in one line what went wrong, and whether it is our own code that says so."""
    cause = getattr(error, "cause", None)  # of an error of a task
    is_told = isinstance(cause, Exception)
    said = str(cause if is_told else error).strip().splitlines() or [type(error).__name__]
    return said[0], is_told
