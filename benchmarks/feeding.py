"""How many cores keep a device busy: images that one training step eats, beside those that one core makes.

`train_step --device` runs it. The step is `model.fit`'s own, on a batch that lies ready; the pipeline is that of
training, from JPEG files to targets, by processor time, so other work on the machine hardly changes it.
"""

from __future__ import annotations

import math
import os
import statistics
import time

import numpy as np
import tensorflow as tf
from absl import logging

from benchmarks import train_step_keras
from data_pipeline import dataset, source
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import optimizer, strategy

# Of a step: half precision or not, then whether XLA compiles it.
MODES = {
    "float32": (False, False),
    "mixed": (True, False),
    "float32_jit": (False, True),
    "mixed_jit": (True, True),
}


def check(device: str) -> None:
    """Makes sure that TensorFlow sees a device.

    Raises:
        ValueError: if not; names those there are.
    """
    seen = [found.name.split("device:")[-1] for found in tf.config.list_logical_devices()]
    if device not in seen:
        raise ValueError(f"--device must be one that TensorFlow sees here, {', '.join(seen)}. Received: {device}")


def measure_steps(device, config, boxes, landmarks, *, modes, num_runs, num_steps) -> dict[str, float | str]:
    """Returns images a second by mode, or why a mode does not work on this device."""
    rates = {}
    for mode in modes:
        try:
            rates[mode] = round(_measure_step(device, config, boxes, landmarks, mode, num_runs, num_steps), 2)
        except (tf.errors.OpError, ValueError, TypeError, NotImplementedError) as error:
            rates[mode] = f"fails: {str(error).strip().splitlines()[0][:160]}"
        logging.info("%-14s %s images a second", mode, rates[mode])
    return rates


def _measure_step(device, config, boxes, landmarks, mode, num_runs, num_steps):
    is_mixed, has_jit = MODES[mode]
    data = train_step_keras.make_data(config, boxes, landmarks, boxes.shape[1]).take(1).cache().repeat()
    with tf.device(device), strategy.precision(tf.distribute.get_strategy(), is_mixed=is_mixed):
        model = model_lib.RetinaFace(config)
        model.compile(optimizer=optimizer.make_optimizer(config.training, 1000, model), jit_compile=has_jit)
        batches = iter(data)
        step = model.make_train_function() or model.train_function
        logs = [step(batches) for _ in range(2)]  # traces, compiles, warms up
        assert np.isfinite(float(logs[-1]["loss"]))
        seconds = []
        for _ in range(num_runs):
            start = time.perf_counter()
            for _ in range(num_steps):
                logs = step(batches)
            float(logs["loss"])  # waits for the device
            seconds.append(time.perf_counter() - start)
    return len(boxes) * num_steps / statistics.median(seconds)


def measure_pipeline(config, images, annotations, num_batches: int) -> float:
    """Returns the training images that one core makes a second."""
    opened = source.open(images, annotations)
    batches = iter(dataset.make_dataset(config, images, opened))
    for _ in range(4):
        next(batches)
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        for _ in range(num_batches):
            next(batches)
        best = min(best, time.process_time() - start)
    return round(num_batches * config.training.batch_size / best, 1)


def size(rates: dict[str, float | str], images_per_core: float) -> dict[str, float]:
    """Returns by mode how many cores make as many images as the device eats."""
    cores = os.cpu_count() or 1
    needed = {mode: round(rate / images_per_core, 1) for mode, rate in rates.items() if not isinstance(rate, str)}
    for mode, wanted in needed.items():
        # The training itself keeps a core of this machine.
        others = max(0, math.ceil((wanted - (cores - 1)) / cores))
        logging.info(
            "%-14s eats what %s cores make; this machine has %d: %s",
            *(mode, wanted, cores),
            f"{others} servers of as many cores for --data_service" if others else "it needs no other",
        )
    return needed
