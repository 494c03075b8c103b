"""Times the mesh decoder: faces a second in batches, beside a linear model with as many numbers.

python -m benchmarks.mesh_decoder --batch_size=128 --seconds=10

The paper behind the decoder (Zhou et al., 2019) has "over 2500 faces a second" in its title.
"""

from __future__ import annotations

import json
import os
import statistics
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from keras_retinaface import program
from keras_retinaface.mesh import decoder as decoder_module

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 128, "Faces decoded at once.", lower_bound=1)
flags.DEFINE_float("seconds", 10.0, "How long to measure.", lower_bound=0.1)
flags.DEFINE_string("json", None, "File for the numbers.")


def main(argv):
    """Runs both in turn, and prints medians and their ratio."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    decoder = decoder_module.pretrained()
    linear = tf.random.stateless_normal((decoder_module.CODE_SIZE, decoder.face.num_vertices * 6), (0, 1))
    codes = tf.random.stateless_normal((FLAGS.batch_size, decoder_module.CODE_SIZE), (0, 2))
    runs = {"decoder": tf.function(decoder), "linear": tf.function(lambda codes: tf.matmul(codes, linear))}
    times = {name: [] for name in runs}
    for run in runs.values():
        np.asarray(run(codes))
    end = time.perf_counter() + FLAGS.seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            start = time.perf_counter()
            np.asarray(run(codes))
            times[name].append(time.perf_counter() - start)
    rates = {name: FLAGS.batch_size / statistics.median(values) for name, values in times.items()}
    result = {
        "faces_a_second": round(rates["decoder"]),
        "linear_faces_a_second": round(rates["linear"]),
        "ratio": round(rates["decoder"] / rates["linear"], 4),
        "batch_size": FLAGS.batch_size,
        "runs": len(times["decoder"]),
        "cores": os.cpu_count(),
        "tensorflow": tf.__version__,
    }
    text = json.dumps(result)
    print(text)
    if FLAGS.json:
        with open(FLAGS.json, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    program.run(main)
