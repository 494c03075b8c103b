"""Finds 68 points of annotated faces with MediaPipe's face mesh, as pseudo labels for training a dense head.

    python -m tools.dense_points --model=face_landmark.tflite --images=DIR --annotations=label.txt --output=points.npz

The model (Apache-2.0, 468 points of a 192 x 192 crop) is not part of this project, and neither is what it finds. Faces
without annotated points are left out, for the crop is placed by them.
"""

from __future__ import annotations

import os

import cv2
import numpy as np
import tqdm
from absl import app, flags

from keras_retinaface import program
from keras_retinaface.evaluation import annotation
from keras_retinaface.geometry import five_points
from keras_retinaface.media import image_file
from keras_retinaface.weights import arrays

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "MediaPipe's face_landmark.tflite.")
flags.DEFINE_string("images", None, "Folder that the names in --annotations start from.")
flags.DEFINE_string("annotations", None, "RetinaFace label.txt.")
flags.DEFINE_string("output", None, "The .npz to write.")
flags.DEFINE_float("min_face", 28.0, "Faces whose shorter side is under this many pixels are left out.")

# Which of its points stand where the 68 of 300-W do, in their order.
POINTS = (
    *(127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),  # jaw
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),  # mouth
)
_SIDE = 192
# The first crop is this much larger than the distance of the eyes or of eyes and mouth, the next ones than the points.
_FIRST, _NEXT = 3.9, 1.5
_PASSES = 3


class FaceMesh:
    """Runs the model, each pass on a crop placed by the points of the one before.

    Args:
        path: path of the `.tflite` file.
    """

    def __init__(self, path: str):
        from ai_edge_litert import interpreter

        self._interpreter = interpreter.Interpreter(model_path=path, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        size = {int(item["shape"][-1]): item["index"] for item in self._interpreter.get_output_details()}
        self._points, self._flag = size[3 * 468], size[1]

    def __call__(self, image: np.ndarray, five: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns `[68, 2]`, pixels, and how sure the model is of a face, 0..1."""
        eyes, mouth = (five[0] + five[1]) / 2, (five[3] + five[4]) / 2
        across, down = five[1] - five[0], mouth - eyes
        unit = across / max(np.linalg.norm(across), 1e-6) + np.array([down[1], -down[0]]) / max(
            np.linalg.norm(down), 1e-6
        )
        angle = np.arctan2(unit[1], unit[0])
        side = _FIRST * max(np.linalg.norm(across), np.linalg.norm(down))
        points, score = self._run(image, (eyes + mouth) / 2, side, angle)
        for _ in range(_PASSES - 1):
            across = points[[362, 263]].mean(0) - points[[33, 133]].mean(0)
            angle = np.arctan2(across[1], across[0])
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            upright = points @ turn.T
            low, high = upright.min(0), upright.max(0)
            points, score = self._run(image, (low + high) / 2 @ turn, _NEXT * max(high - low), angle)
        return points[list(POINTS)], score

    def _run(self, image, centre, side, angle):
        scale = side / _SIDE
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        move = np.array(centre) - turn @ [_SIDE / 2, _SIDE / 2]
        if scale > 2:
            image = cv2.GaussianBlur(image, (0, 0), scale / 2.5)
        matrix = np.concatenate([turn, move[:, None]], 1)
        crop = cv2.warpAffine(image, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        self._interpreter.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._interpreter.invoke()
        points = self._interpreter.get_tensor(self._points).reshape(468, 3)[:, :2]
        score = 1 / (1 + np.exp(-float(self._interpreter.get_tensor(self._flag).reshape(-1)[0])))
        return points @ turn.T + move, score


def main(argv):
    """Reads, runs, writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    find = FaceMesh(FLAGS.model)
    rows = []
    for image_row, entry in enumerate(tqdm.tqdm(annotation.read(FLAGS.annotations), unit="image", disable=None)):
        size = entry.boxes[:, 2:] - entry.boxes[:, :2]
        usable = (size.min(axis=1, initial=np.inf) >= FLAGS.min_face) & np.isfinite(entry.landmarks).all((1, 2))
        if not usable.any():
            continue
        image = image_file.read(os.path.join(FLAGS.images, entry.image))
        for face in np.flatnonzero(usable):
            points, score = find(image, entry.landmarks[face])
            apart = np.linalg.norm(five_points.from_68(points) - entry.landmarks[face], axis=1).mean()
            rows.append((image_row, face, score, apart / np.sqrt(np.prod(size[face])), points))
    columns = zip(("image", "face", "score", "agree", "points"), zip(*rows))
    arrays.write_npz(FLAGS.output, {name: np.array(values) for name, values in columns})


if __name__ == "__main__":
    flags.mark_flags_as_required(["model", "images", "annotations", "output"])
    program.run(main)
