"""Finds faces with an exported model and nothing but numpy, OpenCV and onnxruntime. Copy this file where you need it.

pip install numpy opencv-python-headless onnxruntime
python examples/onnx_detect.py retinaface.onnx photo.jpg [drawn.jpg]

A model of any size sees the photo as it is; one of a fixed size sees it scaled to fit.
"""

from __future__ import annotations

import json
import os
import sys

import cv2
import numpy as np

# From version 1.29 onnxruntime tells its makers about every model that it opens, unless it is told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

# The colour of the padding (RGB) is what the network subtracts, so that padding is zero to it.
PADDING = (123, 117, 104)


def open_model(path: str, num_threads: int = 1) -> onnxruntime.InferenceSession:
    """Opens a model; any number of threads may share it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.enable_mem_pattern = False  # photos of many sizes would leave a plan of memory each
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scales an image into a size, keeping its shape, and pads it at the right or at the bottom."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    fitted = np.empty((*size, 3), np.uint8)
    fitted[:] = PADDING
    fitted[:height, :width] = image
    return fitted, scale


def detect(session: onnxruntime.InferenceSession, image: np.ndarray) -> list[dict]:
    """Finds the faces of a uint8 RGB image; boxes (x1, y1, x2, y2) and landmarks (x, y) in its pixels, best first."""
    height, width = session.get_inputs()[0].shape[1:3]
    picture, scale = fit(image, (height, width)) if isinstance(height, int) else (image, 1.0)
    outputs = session.run(["boxes", "scores", "landmarks", "count"], {"image": picture[None]})
    boxes, scores, landmarks = (rows[0][: outputs[3][0]] for rows in outputs[:3])
    return [
        {"box": (box / scale).tolist(), "score": float(score), "landmarks": (points / scale).tolist()}
        for box, score, points in zip(boxes, scores, landmarks)
    ]


def main(model: str, path: str, drawn: str | None = None) -> None:
    """Prints one JSON line a face, and draws them into a file if one is named."""
    bgr = cv2.imread(path)
    if bgr is None:
        raise SystemExit(f"{path}: not a readable image")
    for face in detect(open_model(model), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)):
        print(json.dumps(face))
        x1, y1, x2, y2 = (round(v) for v in face["box"])
        cv2.rectangle(bgr, (x1, y1), (x2, y2), (80, 220, 80), 2)
        for x, y in face["landmarks"]:
            cv2.circle(bgr, (round(x), round(y)), 2, (60, 60, 255), -1)
    if drawn:
        cv2.imwrite(drawn, bgr)


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv or len(sys.argv) not in (3, 4):
        sys.exit(print(__doc__) if set(sys.argv) & {"-h", "--help"} else f"expected MODEL PHOTO [DRAWN]\n{__doc__}")
    main(*sys.argv[1:])
