"""Trains a few steps on one or two logical CPU devices and writes losses and weights; `replica_test` starts it.

Devices must be made before TensorFlow starts, which in pytest it has.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
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


def run(num_devices, changes):
    """Returns the losses of every step and the weights after the last."""
    devices = [f"CPU:{index}" for index in range(num_devices)]
    strategy = tf.distribute.MirroredStrategy(devices) if num_devices > 1 else tf.distribute.get_strategy()
    config = config_lib.Config().replace(batch_size=BATCH, learning_rate=1e-3, warmup=0.0, clip_norm=1.0, **changes)
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = model_lib.RetinaFace(config)
        start.initialise(model, "mobilenet025")
        start.freeze(model, config_lib.Training(use_frozen_norms=True))
        model.compile(optimizer=optimizer.make_optimizer(config.training, STEPS, model))
    images = np.random.default_rng(1).uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    num_anchors = (8 * 8 + 4 * 4 + 2 * 2) * 2
    data = tf.data.Dataset.from_tensor_slices((images, targets(num_anchors))).batch(BATCH).repeat()
    history = model.fit(data, epochs=STEPS, steps_per_epoch=1, verbose=0, shuffle=False).history
    return history, {name: tf.convert_to_tensor(value).numpy() for name, value in arrays.names(model).items()}


def main():
    """Takes a JSON list of runs, [number of devices, changes of the config], and a folder for their weights."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    histories = []
    for index, (num_devices, changes) in enumerate(json.loads(sys.argv[1])):
        history, values = run(num_devices, changes)
        histories.append(history)
        arrays.write_npz(f"{sys.argv[2]}/{index}.npz", {name.replace("/", ":"): v for name, v in values.items()})
    print(json.dumps(histories))


if __name__ == "__main__":
    main()
