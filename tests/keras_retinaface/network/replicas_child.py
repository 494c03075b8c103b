"""Trains a few steps on one or two logical CPU devices and writes losses and weights; `replica_test` starts it.

Devices must be made before TensorFlow starts, which in pytest it has. With TF_CONFIG in the environment it is one of
several workers, each with a whole model, and learns from its share of the images.
"""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
from keras_retinaface.network import replica
from keras_retinaface.training import optimizer, start
from keras_retinaface.weights import arrays

BATCH, SIZE, STEPS = 4, 64, 2


def targets(num_anchors):
    """Unequal images: many faces, few, none, and one whose landmarks are not labelled."""
    rng = np.random.default_rng(0)
    state = np.zeros((BATCH, num_anchors), np.int32)
    state[0, :30], state[1, 40:43], state[3, 60:70], state[:, -20:] = 1, 1, 1, -1
    corner = rng.uniform(0, 30, (BATCH, num_anchors, 2))
    is_positive, has_landmarks = state == 1, np.array([True, True, True, False])[:, None]
    return {
        "state": state,
        "box_deltas": rng.normal(size=(BATCH, num_anchors, 4)).astype(np.float32) * is_positive[..., None],
        "landmark_deltas": rng.normal(size=(BATCH, num_anchors, 5, 2)).astype(np.float32),
        "landmark_weight": np.repeat((is_positive & has_landmarks)[..., None], 5, -1).astype(np.float32),
        "matched_box": np.concatenate([corner, corner + rng.uniform(8, 30, corner.shape)], -1).astype(np.float32),
    }


def run(num_devices, changes, worker=0, num_workers=1, *, has_frozen_norms=True):
    """Returns the losses of every step and the weights after the last."""
    devices = [f"CPU:{index}" for index in range(num_devices)]
    strategy = tf.distribute.MirroredStrategy(devices) if num_devices > 1 else tf.distribute.get_strategy()
    config = config_lib.Config().replace(batch_size=BATCH, learning_rate=1e-3, warmup=0.0, clip_norm=1.0, **changes)
    with strategy.scope():
        keras.utils.set_random_seed(3 + worker)
        model = model_lib.RetinaFace(config)
        start.initialise(model, "mobilenet025")
        start.freeze(model, config_lib.Training(use_frozen_norms=has_frozen_norms))
        model.compile(optimizer=optimizer.make_optimizer(config.training, STEPS, model))
    images = np.random.default_rng(1).uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    num_anchors = (8 * 8 + 4 * 4 + 2 * 2) * 2
    # Neighbours stay together: what accumulates or trains on several workers then sees the same images.
    share = BATCH // num_workers
    rows = slice(worker * share, (worker + 1) * share)
    mine = tf.nest.map_structure(lambda values: values[rows], (images, targets(num_anchors)))
    data = tf.data.Dataset.from_tensor_slices(mine).batch(share).repeat()
    history = model.fit(data, epochs=STEPS, steps_per_epoch=1, verbose=0, shuffle=False).history
    return history, {name: tf.convert_to_tensor(value).numpy() for name, value in arrays.names(model).items()}


def run_worker(runs, folder):
    """Runs as one of several workers; weights start as the first worker's."""
    workers = tf.distribute.MultiWorkerMirroredStrategy()
    index = workers.cluster_resolver.task_id
    histories = []
    with replica.joined(workers):
        for number, (changes, has_frozen_norms) in enumerate(runs):
            history, values = run(1, changes, index, workers.num_replicas_in_sync, has_frozen_norms=has_frozen_norms)
            histories.append(history)
            write(f"{folder}/worker{index}_{number}.npz", values)
        drawn = tf.Variable([1.0, 2.0] if index == 0 else [5.0, 7.0])
        replica.follow_first([drawn])
        assert drawn.numpy().tolist() == [1.0, 2.0]
    return histories


def write(path, values):
    """Writes weights under names that may stand in a zip file."""
    arrays.write_npz(path, {name.replace("/", ":"): value for name, value in values.items()})


def main():
    """Takes a JSON list of runs, [number of devices, changes of the config], and a folder for their weights."""
    runs, folder = json.loads(sys.argv[1]), sys.argv[2]
    if "TF_CONFIG" in os.environ:
        print(json.dumps(run_worker(runs, folder)), flush=True)
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    histories = []
    for index, (num_devices, changes) in enumerate(runs):
        history, values = run(num_devices, changes)
        histories.append(history)
        write(f"{folder}/{index}.npz", values)
    print(json.dumps(histories))


if __name__ == "__main__":
    main()
