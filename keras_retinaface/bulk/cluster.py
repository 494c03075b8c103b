"""A run on several machines by Ray Data: actors that keep one detector each do units of the plan."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import logging

from keras_retinaface import extras
from keras_retinaface.bulk import crew, job, plan, rows, source
from keras_retinaface.media import image_file


def require() -> None:
    """Makes sure that Ray is there.

    Raises:
        ValueError: if not; says what to install.
    """
    extras.load("ray.data", "bulk, on Python 3.10 and later,")


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


class Units:
    """Does units of a plan, each of which becomes a part; what Ray calls an actor's class.

    The detector lives in a process beside the actor, so that an image that kills it costs neither actor nor unit.

    Args:
        folder: of the run, which all machines see under this path.
        made: what is done with an image.
        batch_size: images that go through the network together.
    """

    def __init__(self, folder: str, made: job.Job, batch_size: int):
        self._folder, self._plan = pathlib.Path(folder), plan.Plan(folder)
        self._crew = crew.Crew(made, 1, 1)
        self._batch_size = batch_size

    def __call__(self, batch: dict) -> dict:
        """Does units; returns of each its number and what it holds."""
        entries = [self._do(int(unit)) for unit in batch["unit"]]
        columns = {name: np.array([entry[name] for entry in entries]) for name in ("part", "rows", "broken", "faces")}
        return {"unit": batch["unit"], **columns}

    def _do(self, unit: int) -> dict:
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
    try:
        ray.init(address=address or "local", logging_level="ERROR", log_to_driver=False, include_dashboard=False)
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

    What a worker, a machine or a full store takes down, Ray does again; a part that is written twice is there once.
    """
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    logging.info("%d units on %d actors", len(units), num_actors)
    done = ray.data.from_items([{"unit": int(unit)} for unit in units], override_num_blocks=len(units)).map_batches(
        Units,
        fn_constructor_args=(folder, made, batch_size),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, initial_size=num_actors, max_size=num_actors, max_tasks_in_flight_per_actor=2
        ),
        num_cpus=cpus_per_actor,
        num_gpus=gpus_per_actor or None,
    )
    for row in done.iter_rows():
        yield {"part": str(row["part"]), **{name: int(row[name]) for name in ("rows", "broken", "faces")}}
