"""Many devices: distribution strategies by name, each worker's share of the batches, and half precision."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf
from absl import logging

from keras_retinaface.network import replica

ONE, MIRRORED, MULTI_WORKER, TPU = NAMES = ("one", "mirrored", "multi_worker", "tpu")
# Lines around the reason in a message of TensorFlow.
_NO_REASON = ("Graph execution error", "Detected at node", "The error could be from")
# What TensorFlow puts around the texts of `tf.debugging.Assert`.
_ASSERTION = re.compile(r"^(?:.*: )?assertion failed: \[(.*)\]$")
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.InternalError,
    tf.errors.DeadlineExceededError,
)
START_ALL = "start the same command on all workers to go on from the last checkpoint"
_IS_KERAS_2 = keras.__version__.startswith("2.")


def make(name: str) -> tf.distribute.Strategy:
    """Builds a strategy; before TensorFlow has run anything.

    Args:
        name: `one` device; `mirrored`, all GPUs of this machine, without any all its logical CPU devices;
            `multi_worker`, this machine as the worker that the environment variable TF_CONFIG says, all started with
            the same command; `tpu`, the one that the environment names or that is attached.

    Raises:
        ValueError: if the environment does not fit.
    """
    if name not in NAMES:
        raise ValueError(f"`strategy` must be one of {NAMES}. Received: strategy={name!r}")
    if name == ONE:
        return tf.distribute.get_strategy()
    # A line for every variable that is read would bury all others.
    tf.get_logger().setLevel("WARNING")
    if name == MIRRORED:
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return _make_multi_worker() if name == MULTI_WORKER else _make_tpu()


def _make_multi_worker():
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", ""))
        workers, index = cluster["cluster"]["worker"], cluster["task"]["index"]
        logging.info("worker %d of %d, waiting for the others", index, len(workers))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "`strategy`: multi_worker needs TF_CONFIG in the environment, as "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG')}"
        ) from error
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    num_devices = len(strategy.extended.worker_devices)
    if not _IS_KERAS_2 and num_devices > 1:
        raise ValueError(
            "`strategy`: multi_worker takes one GPU a worker under Keras 3: start a worker for each, with its own "
            f"TF_CONFIG and CUDA_VISIBLE_DEVICES. Received: {num_devices} GPUs"
        )
    return strategy


def _make_tpu():
    try:
        # As Cloud and Colab set it; a TPU that is attached to this machine needs no name.
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(os.environ.get("TPU_NAME", "local"))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(f"`strategy`: no TPU was found: {str(error).splitlines()[0]}") from error
    return tf.distribute.TPUStrategy(resolver)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes files."""
    return not is_multi_worker(strategy) or strategy.cluster_resolver.task_id == 0


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether other processes train along."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _holds_whole_models(strategy) -> bool:
    """Returns whether each worker has a model of its own: the `fit` of Keras 3 fails in a strategy of processes.

    https://github.com/keras-team/keras/issues/20585
    """
    return is_multi_worker(strategy) and not _IS_KERAS_2


def joined(strategy: tf.distribute.Strategy):
    """Returns a context for a training, in which workers that each have a model add up what they learn."""
    return replica.joined(strategy) if _holds_whole_models(strategy) else contextlib.nullcontext()


def scope(strategy: tf.distribute.Strategy):
    """Returns a context for making a model that the strategy spreads, where it does."""
    return contextlib.nullcontext() if _holds_whole_models(strategy) else strategy.scope()


@contextlib.contextmanager
def precision(strategy: tf.distribute.Strategy, *, is_mixed: bool) -> Iterator[None]:
    """Lets layers made inside compute in half precision or not; variables and losses are float32 either way.

    Args:
        strategy: decides which kind: bfloat16 on TPUs and CPUs, which have no fast float16, else float16.
        is_mixed: whether to.
    """
    kind = "bfloat16"
    if tf.config.list_logical_devices("GPU") and not isinstance(strategy, tf.distribute.TPUStrategy):
        kind = "float16"
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(f"mixed_{kind}" if is_mixed else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def distribute(
    strategy: tf.distribute.Strategy, make_batches: Callable[..., tf.data.Dataset], batch_size: int, step: int = 0
):
    """Builds a dataset that hands every replica its share of the batches.

    All replicas together see the samples of a step that one device would see.

    Args:
        strategy: strategy of the training.
        make_batches: `data_pipeline.dataset.make_dataset`, all but the arguments `batch_size`, `start_step`,
            `num_workers` and `worker`.
        batch_size: samples of all replicas together.
        step: batches already seen.

    Returns:
        What `fit` takes.

    Raises:
        ValueError: if the batch cannot be shared evenly.
    """
    num_replicas = strategy.num_replicas_in_sync
    if batch_size % num_replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of the {num_replicas} devices. Received: batch_size={batch_size}"
        )
    if not _is_distributed(strategy):
        return make_batches(batch_size=batch_size, start_step=step, num_workers=1, worker=0)
    if _holds_whole_models(strategy):
        own = {"num_workers": num_replicas, "worker": strategy.cluster_resolver.task_id}
        return make_batches(batch_size=batch_size // num_replicas, start_step=step, **own)

    def of_worker(context):
        # A worker's replicas take batches in turn.
        replicas = num_replicas // context.num_input_pipelines
        return make_batches(
            batch_size=batch_size // num_replicas,
            start_step=step * replicas,
            num_workers=context.num_input_pipelines,
            worker=context.input_pipeline_id,
        )

    return strategy.distribute_datasets_from_function(of_worker)


def distribute_whole(
    strategy: tf.distribute.Strategy, make_batches: Callable[..., tf.data.Dataset], batch_size: int, num_records: int
):
    """As `distribute`, for a dataset that ends. Spread over devices, it ends with the last full batch of all.

    Args:
        strategy: strategy of the training.
        make_batches: see `distribute`.
        batch_size: samples of all replicas together.
        num_records: images of all workers.

    Raises:
        ValueError: if the batch cannot be shared evenly, or there is not one full batch.
    """
    if not _is_distributed(strategy):
        return distribute(strategy, make_batches, batch_size)
    num_batches = num_records // batch_size
    if not num_batches:
        raise ValueError(
            f"`val_annotations` must hold at least one batch for all devices. "
            f"Received: batch_size={batch_size}, {num_records} images"
        )
    if num_records % batch_size:
        logging.info("leaving %d validation images out of the losses: no full batch", num_records % batch_size)
    replicas_per_worker = strategy.num_replicas_in_sync // _num_workers(strategy)

    def share(**options):
        return make_batches(**options).take(num_batches * replicas_per_worker)

    return distribute(strategy, share, batch_size)


def _num_workers(strategy) -> int:
    if not is_multi_worker(strategy):
        return 1
    return len(strategy.cluster_resolver.cluster_spec().as_dict()["worker"])


def _is_distributed(strategy) -> bool:
    kinds = tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy, tf.distribute.TPUStrategy
    return isinstance(strategy, kinds)


def check_agreement(strategy: tf.distribute.Strategy, step: int) -> None:
    """Makes sure that all workers go on from the same step.

    Args:
        strategy: strategy of the training.
        step: step that this worker goes on from.

    Raises:
        ValueError: if they do not, as when each has a workdir of its own.
    """
    if not is_multi_worker(strategy):
        return
    own = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([step], tf.int64))
    steps = sorted({int(value) for value in strategy.gather(own, axis=0)})
    if len(steps) > 1:
        raise ValueError(
            f"workers stand at different steps, {steps}: --workdir must be one folder that all of them see"
        )


def explain(error: tf.errors.OpError, name: str) -> OSError:
    """Returns an error of one line for one that TensorFlow raised in the middle of training.

    Args:
        error: error with a page of Python frames, the reason at their end.
        name: name of the strategy.
    """
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    # Frames of the Python that built the graph are indented, as are the nodes of the graph.
    reasons = [line for line in error.message.splitlines() if line[:1].strip() and not line.startswith(_NO_REASON)]
    reason = _ASSERTION.sub(lambda found: found[1].replace("] [", " "), " ".join(reasons)) or lines[0]
    if name == MULTI_WORKER and isinstance(error, _LOST_WORKER):
        return ConnectionError(f"another worker was lost; {START_ALL}: {reason}")
    return OSError(reason)
