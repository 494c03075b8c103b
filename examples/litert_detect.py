"""Finds faces with an exported model and nothing but numpy, OpenCV and LiteRT. Copy this file where you need it.

pip install numpy opencv-python-headless ai-edge-litert
python examples/litert_detect.py retinaface.tflite photo.jpg [drawn.jpg]

Takes the first size of a model that has several.
"""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
from ai_edge_litert import interpreter

# The colour of the padding (RGB) is what the network subtracts, so that padding is zero to it.
PADDING = (123, 117, 104)


def open_model(path: str, num_threads: int = 1):
    """Opens the first signature of a model: a function of `image=`, and the (height, width) it takes."""
    model = interpreter.Interpreter(model_path=path, num_threads=num_threads)
    runner = model.get_signature_runner(next(iter(model.get_signature_list())))
    return runner, tuple(runner.get_input_details()["image"]["shape"][1:3].tolist())


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


def detect(runner, size: tuple[int, int], image: np.ndarray) -> list[dict]:
    """Finds the faces of a uint8 RGB image; boxes (x1, y1, x2, y2) and landmarks (x, y) in its pixels, best first."""
    fitted, scale = fit(image, size)
    found = runner(image=fitted[None])
    count = int(found["count"][0])
    boxes, scores, landmarks = (found[name][0][:count] for name in ("boxes", "scores", "landmarks"))
    return [
        {"box": (box / scale).tolist(), "score": float(score), "landmarks": (points / scale).tolist()}
        for box, score, points in zip(boxes, scores, landmarks)
    ]


def main(model: str, path: str, drawn: str | None = None) -> None:
    """Prints one JSON line a face, and draws them into a file if one is named."""
    bgr = cv2.imread(path)
    if bgr is None:
        raise SystemExit(f"{path}: not a readable image")
    faces = detect(*open_model(model), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    for face in faces:
        print(json.dumps(face))
        x1, y1, x2, y2 = (round(v) for v in face["box"])
        cv2.rectangle(bgr, (x1, y1), (x2, y2), (80, 220, 80), 2)
        for x, y in face["landmarks"]:
            cv2.circle(bgr, (round(x), round(y)), 2, (60, 60, 255), -1)
    if drawn:
        cv2.imwrite(drawn, bgr)


if __name__ == "__main__":
    main(*sys.argv[1:])
