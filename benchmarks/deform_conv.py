"""Times deformable convolution: ours, the ordinary convolution, tensorflow-addons' resampler and torchvision, in turns.

    python -m benchmarks.deform_conv --torch_python=PATH_OF_A_PYTHON_WITH_TORCHVISION

Each turn runs every contestant once, torchvision in a process of its own on the same numbers of pixels and threads;
the table holds medians. Without `--torch_python` the column of torchvision is empty.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from keras_retinaface import program
from keras_retinaface.layers import deform_op

try:
    import tensorflow_addons as tfa
except ImportError:  # the current stack has none
    tfa = None

_TORCH_PYTHON = flags.DEFINE_string("torch_python", None, "Python with torch and torchvision.")
_SIZE = flags.DEFINE_integer("size", 160, "Height and width of the features, pixels.")
_CHANNELS = flags.DEFINE_integer("channels", 256, "Channels of the features.")
_FILTERS = flags.DEFINE_integer("filters", 256, "Channels of the output.")
_TILE = flags.DEFINE_integer("tile", 4096, "Locations sampled at once.")
_RUNS = flags.DEFINE_integer("runs", 7, "Turns.")
_WORKER = pathlib.Path(__file__).with_name("torch_deform_conv.py")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    contestants = _contestants()
    worker = None
    if _TORCH_PYTHON.value:
        worker = subprocess.Popen(
            [_TORCH_PYTHON.value, str(_WORKER), str(_SIZE.value), str(_CHANNELS.value), str(_FILTERS.value)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        contestants["torchvision"] = {mode: lambda mode=mode: _ask(worker, mode) for mode in ("forward", "both")}
    times = {name: {mode: [] for mode in modes} for name, modes in contestants.items()}
    for turn in range(_RUNS.value + 1):
        for name, modes in contestants.items():
            for mode, run in modes.items():
                start = time.perf_counter()
                reported = run()
                if turn:  # the first traces and warms up
                    times[name][mode].append(reported or time.perf_counter() - start)
    if worker:
        worker.stdin.close()
        worker.wait()
    _report(times)


def _contestants() -> dict:
    random = np.random.default_rng(0)
    size, channels, filters = _SIZE.value, _CHANNELS.value, _FILTERS.value
    features, offsets, mask, kernel = (
        tf.constant(values, tf.float32)
        for values in (
            random.normal(size=(1, size, size, channels)),
            random.uniform(-2, 2, (1, size, size, 18)),
            random.uniform(0, 2, (1, size, size, 9)),
            random.normal(size=(3, 3, channels, filters)),
        )
    )

    def ours(sampler):
        return lambda *inputs: deform_op.convolve(*inputs, tile=_TILE.value, sampler=sampler)

    functions = {
        "ordinary convolution": (lambda features, kernel: tf.nn.conv2d(features, kernel, 1, "SAME"), features, kernel),
        "ours, sparse": (ours("sparse"), features, offsets, kernel, mask),
        "ours, gather": (ours("gather"), features, offsets, kernel, mask),
    }
    if tfa is not None:
        functions["tfa resampler"] = (_resampled, features, offsets, kernel, mask)
    return {name: _modes(*function) for name, function in functions.items()}


def _resampled(features, offsets, kernel, mask):
    """The same convolution with the sampling of tensorflow-addons, all taps at once."""
    _, rows, columns, channels = features.shape
    y, x = tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij")
    taps = tf.constant([[y, x] for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)])
    points = tf.cast(tf.stack([y, x], axis=-1), tf.float32)[:, :, None] + taps
    points += tf.reshape(offsets, [rows, columns, 9, 2])
    samples = tfa.image.resampler(features, tf.reshape(points[..., ::-1], [1, -1, 2]))
    samples = tf.reshape(samples, [-1, 9, channels]) * tf.reshape(mask, [-1, 9, 1])
    return tf.matmul(tf.reshape(samples, [rows * columns, -1]), tf.reshape(kernel, [9 * channels, -1]))


def _modes(function, *inputs) -> dict:
    forward = tf.function(function, autograph=False)

    @tf.function(autograph=False)
    def both(*values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(function(*values))
        return tape.gradient(total, values)

    def run(graph):
        tf.nest.map_structure(lambda values: values.numpy()[..., :1], graph(*inputs))

    return {"forward": lambda: run(forward), "both": lambda: run(both)}


def _ask(worker, mode: str) -> float:
    worker.stdin.write(f"{mode}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def _report(times: dict) -> None:
    medians = {
        name: {mode: statistics.median(values) for mode, values in modes.items()} for name, modes in times.items()
    }
    reference = medians.get("torchvision")
    print(f"\n{_SIZE.value} x {_SIZE.value}, {_CHANNELS.value} -> {_FILTERS.value} channels, 3 x 3, tile {_TILE.value}")
    print("| | forward, ms | / torchvision | forward and backward, ms | / torchvision |\n|---|---|---|---|---|")
    for name, modes in medians.items():
        cells = [name]
        for mode in ("forward", "both"):
            cells.append(f"{1e3 * modes[mode]:.0f}")
            cells.append(f"{modes[mode] / reference[mode]:.2f}" if reference else "")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    program.run(main)
