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
GREEN = (90, 220, 40)  # BGR


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


def draw(bgr: np.ndarray, faces: list[dict]) -> None:
    """Draws boxes, points and scores, in sizes that go by the face and by the picture."""
    for x1, y1, x2, y2, face in ((*map(round, face["box"]), face) for face in faces):
        text = max(11, min(max(bgr.shape) / 70, (x2 - x1) / 3), min((x2 - x1) / 7, max(bgr.shape) / 25))  # pixels
        line, style = max(1, round(text / 9)), (cv2.FONT_HERSHEY_SIMPLEX, text / 22)
        cv2.rectangle(bgr, (x1, y1), (x2, y2), GREEN, line)
        for point in face["landmarks"]:
            for radius, colour in ((2 * line + 1, (0, 0, 0)), (2 * line, (60, 60, 255))):
                cv2.circle(bgr, tuple(map(round, point)), radius, colour, -1, cv2.LINE_AA)
        width, height = cv2.getTextSize(f"{face['score']:.2f}", *style, line)[0]
        y1 = max(y1, height + 4 * line)
        cv2.rectangle(bgr, (x1, y1 - height - 4 * line), (x1 + width, y1), GREEN, -1)
        cv2.putText(bgr, f"{face['score']:.2f}", (x1, y1 - 2 * line), *style, (0, 25, 5), line, cv2.LINE_AA)


def main(model: str, path: str, drawn: str | None = None) -> None:
    """Prints one JSON line a face, and draws them into a file if one is named."""
    bgr = cv2.imread(path)
    if bgr is None:
        raise SystemExit(f"{path}: not a readable image")
    faces = detect(*open_model(model), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    for face in faces:
        print(json.dumps(face))
    if drawn:
        draw(bgr, faces)
        cv2.imwrite(drawn, bgr)


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv or len(sys.argv) not in (3, 4):
        sys.exit(print(__doc__) if set(sys.argv) & {"-h", "--help"} else f"expected MODEL PHOTO [DRAWN]\n{__doc__}")
    main(*sys.argv[1:])
