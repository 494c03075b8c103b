"""The flags of who does which images at the same time. Only scripts may import this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from absl import flags

from keras_retinaface.bulk import crew, job
from keras_retinaface.bulk import shard as shard_lib

NAMES = ("workers", "batch_size", "shard", "restart")
# Under so many images, workers take longer to start than they save.
_FEW = 32


def define() -> None:
    """Defines `NAMES`."""
    flags.DEFINE_integer(
        "workers",
        None,
        "Images done at the same time: for a model that runs without TensorFlow (.tflite, .onnx, mobilenet025) "
        "processes, for another threads of one process. By default one a core, and two for TensorFlow, which uses all "
        "cores itself. 0, the default of few images, works in the command's own process, one image after the other.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "batch_size", 1, "Images that a worker takes at once; those of one size go through the network together.", 1
    )
    flags.DEFINE_string(
        "shard",
        None,
        "I/N: do only the images that are this machine's of N, by the hash of their paths as they are spelled. I "
        "counts from 1 to N or from 0 to N - 1. Each needs a --json of its own.",
    )
    flags.DEFINE_bool(
        "restart",
        False,
        "Begin anew where the same --json holds a run that is not through, which is gone on with otherwise.",
    )


def shard() -> tuple[int, int]:
    """Returns index and count of `--shard`."""
    text = flags.FLAGS.shard
    return shard_lib.parse(text) if text is not None else (0, 1)


def outcomes(made: job.Job, items: Sequence[job.Item], model: str, num_threads: int | None) -> Iterator[job.Outcome]:
    """Yields what comes of items, in order; a few are not worth another process, unless one is asked for.

    Args:
        made: what is done.
        items: items to do.
        model: model that the job opens.
        num_threads: threads of the network, or None.
    """
    num_workers, batch_size = flags.FLAGS.workers, flags.FLAGS.batch_size
    if num_workers == 0 or (num_workers is None and len(items) < _FEW):
        return crew.run_here(made, items, batch_size)
    num_processes, threads = crew.split(model, num_workers, num_threads)
    if num_processes > 1 and num_threads is None:
        made = made.with_threads(1)
    return crew.run(made, items, num_processes=num_processes, num_threads=threads, batch_size=batch_size)
