"""Finds faces in very many images, on one machine or a cluster, by Ray.

    retinaface bulk --model=retinaface.tflite --input=/archive --output=/results
    retinaface bulk --model=retinaface.tflite --input='/sets/*.tar' --output=/results --address=auto --num_actors=64
    retinaface bulk --model=retinaface.tflite --input=s3://photos/2024 --output=/mnt/results --gpus_per_actor=0.25

Writes a folder of Parquet, one row an image, broken ones with what is wrong with them; --model and --output are paths
that all machines see. Started again with the same arguments, it goes on where it was stopped. Without --address it
starts a Ray of this machine. Every image is in the result once, whatever dies meanwhile.
"""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import sys

import tqdm
from absl import app, flags, logging

from keras_retinaface import output, program, stopping
from keras_retinaface.bulk import cluster, crew, job, plan, progress, rows, source
from keras_retinaface.cli import detection_flags
from keras_retinaface.inference import detector

_MODEL = detection_flags.define_model("mobilenet025")
_INPUT = flags.DEFINE_multi_string(
    "input",
    [],
    "A folder, a glob, a .txt file of paths or addresses, a .parquet file with a column of bytes, or a .tar file of "
    "images; may be given more than once, and be an address of fsspec (s3://, gs://, http://).",
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the results, which all machines see under this path.")
_ADDRESS = flags.DEFINE_string("address", None, "Of a Ray cluster; `auto` is the one that this machine is in.")
_NUM_ACTORS = flags.DEFINE_integer(
    "num_actors", None, "Workers; by default one a core, or as many as the GPUs take.", 1
)
_GPUS_PER_ACTOR = flags.DEFINE_float("gpus_per_actor", 0.0, "Share of a GPU that a worker takes.", 0.0)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images of one size that go through the network together.", 1)
_RESTART = flags.DEFINE_bool("restart", False, "Remove what --output holds of a run, and begin anew.")
_MAX_PIXELS = detection_flags.define_max_pixels()
_, settings = detection_flags.define()


def _arguments() -> dict:
    """Returns what must be the same to go on."""
    names = ("input", "model", "max_pixels")
    arguments = {f"--{name}": flags.FLAGS[name].value for name in names}
    arguments |= {f"--{name}": value for name, value in settings().items()}
    return {**arguments, "the content of --model": progress.model_sum(_MODEL.value)}


def _begin(folder: pathlib.Path) -> plan.Plan:
    """Makes the folder ready and the plan, or takes those that are there."""
    if _RESTART.value:
        (folder / plan.PLAN).unlink(missing_ok=True)
    rows.begin(folder, _arguments(), _OUTPUT.name, is_restart=_RESTART.value)
    if not (folder / plan.PLAN).exists():
        entries = itertools.chain.from_iterable(map(source.find, _INPUT.value))
        num_images, num_twice = plan.write(folder, tqdm.tqdm(entries, "listing", unit="image", disable=None))
        if num_twice:
            logging.warning("%d images are given more than once; each is done once", num_twice)
        if not num_images:
            for name in (plan.PLAN, rows.RUN):
                (folder / name).unlink(missing_ok=True)
            raise ValueError(f"--input={_INPUT.value}: no images there")
    return plan.Plan(folder)


def _index_again(folder: pathlib.Path) -> dict[str, dict]:
    """Makes the index say what the parts hold; returns it."""
    index = rows.Index(folder)
    known = index.read()
    entries = {
        path.name: known.get(path.name) or rows.entry_of(path.name, rows.read_part(path)) for path in rows.parts(folder)
    }
    index.write(entries)
    return entries


def _num_actors(cpus_per_actor: int) -> int:
    import ray

    if _NUM_ACTORS.value:
        return _NUM_ACTORS.value
    resources = ray.cluster_resources()
    has_gpus = _GPUS_PER_ACTOR.value > 0
    share = _GPUS_PER_ACTOR.value if has_gpus else cpus_per_actor
    return max(1, int(resources.get("GPU" if has_gpus else "CPU", 0) / share))


def _run() -> int:
    rows.require()
    cluster.require()
    folder = output.make_folder(_OUTPUT.value, _OUTPUT.name).resolve()
    with rows.hold(folder):
        return _run_in(folder)


def _run_in(folder: pathlib.Path) -> int:
    options = detection_flags.arguments()
    options["num_threads"] = options["num_threads"] or 1
    model = os.path.abspath(_MODEL.value) if os.path.exists(_MODEL.value) else _MODEL.value
    made = job.Job(functools.partial(detector.Detector, model, **options), cluster.ReadEntry(_MAX_PIXELS.value))
    crew.check(made)  # one that cannot be opened is told here, before millions are listed, and not by every actor
    planned = _begin(folder)
    index, entries = rows.Index(folder), _index_again(folder)
    units = plan.missing(folder, planned.num_units)
    num_done = planned.num_images - sum(map(planned.size, units))
    if num_done:
        logging.warning("%s: going on behind %d of %d images", folder, num_done, planned.num_images)
    if units:
        leave = cluster.start(_ADDRESS.value)
        try:
            found = cluster.run(
                str(folder),
                units,
                made,
                num_actors=min(_num_actors(options["num_threads"]), len(units)),
                cpus_per_actor=options["num_threads"],
                gpus_per_actor=_GPUS_PER_ACTOR.value,
                batch_size=_BATCH_SIZE.value,
            )
            with tqdm.tqdm(total=planned.num_images, initial=num_done, unit="image", disable=None) as bar:
                for entry in found:
                    index.append(entry)
                    entries[entry["part"]] = entry
                    bar.update(entry["rows"])
        finally:
            leave()
    totals = [sum(entry[name] for entry in entries.values()) for name in ("rows", "broken", "faces")]
    print(
        f"{'images':>9} {'broken':>9} {'faces':>9}\n{totals[0] - totals[1]:>9} {totals[1]:>9} {totals[2]:>9}",
        file=sys.stderr,
    )
    return 1 if totals[1] else 0


def main(argv):
    """Detects on what the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if not _INPUT.value or not _OUTPUT.value:
        raise app.UsageError("give --input and --output")
    return stopping.run(_run, hint="; the same command goes on")


if __name__ == "__main__":
    program.run(main)
