"""Our side of `train_step.py`: runs steps of `model.fit`'s compiled function when told to on standard input.

The loop is not `fit` itself, whose start would be measured with every short run; `fit` calls the same function. Anchors
are matched in the tf.data graph, as in training, and nothing is made before the clock starts.
"""

import json
import sys
import time

import numpy as np
import tensorflow as tf

from benchmarks import process
from data_pipeline import target
from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import optimizer


def main():
    settings = json.loads(sys.stdin.readline())
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(settings["threads"])
    boxes, size = np.float32(settings["boxes"]), settings["size"]
    batch, num_faces = boxes.shape[:2]
    changes = {name: config_lib.parse(name, text) for name, text in settings["changes"].items()}
    config = config_lib.Config.preset(settings["preset"]).replace(
        batch_size=batch, image_size=(size, size), use_recompute=settings["use_recompute"], **changes
    )
    model = model_lib.RetinaFace(config)
    model.compile(optimizer=optimizer.make_optimizer(config.training, 1000, model))
    batches = iter(make_data(config, boxes, np.float32(settings["landmarks"]), num_faces))
    step = model.make_train_function() or model.train_function  # Keras 2 returns it, Keras 3 does not
    process.answer()
    for line in sys.stdin:
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(json.loads(line)["steps"]):
            logs = step(batches)
        assert np.isfinite(float(logs["loss"]))
        elapsed = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy}
        process.answer(**elapsed, memory_mb=process.peak_memory())


def make_data(config, boxes, landmarks, num_faces):
    batch, (height, width) = len(boxes), config.augmentation.image_size
    images = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3)).astype(np.float32)
    sample = {
        "image": images,
        "boxes": boxes,
        "landmarks": landmarks,
        "landmark_visible": np.ones(landmarks.shape[:-1], bool),
        "is_ignored": np.zeros(boxes.shape[:-1], bool),
        "num_faces": np.full(batch, num_faces, np.int32),
    }
    data = tf.data.Dataset.from_tensors(sample).cache().repeat()
    return data.map(lambda s: (s["image"], target.make(s, (height, width), config.anchors)))


if __name__ == "__main__":
    main()
