"""NumPy images in, faces out, for models of every kind. Imports no TensorFlow of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface import runtime

# What the first layer subtracts, so that padding in this colour is zero to the network.
_PADDING = (123, 117, 104)


@dataclasses.dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the image it was found in.

    Attributes:
        box: float32 `[4]`, xyxy.
        score: in [0, 1].
        landmarks: float32 `[5, 2]`, (x, y): eyes, nose tip, mouth corners, left of the image first.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray

    def to_dict(self) -> dict:
        """Returns plain lists, ready for JSON, rounded to a thousandth of a pixel."""
        return {
            "box": [round(float(v), 3) for v in self.box],
            "score": round(float(self.score), 6),
            "landmarks": [[round(float(v), 3) for v in point] for point in self.landmarks],
        }


class Detector:
    """Finds faces.

    Args:
        model: a preset (`mobilenet025`), a workdir, a `.keras` file, a `.tflite` file, a SavedModel directory, or a
            RetinaFace.
        score_threshold: detections under this score are dropped.
        iou_threshold: of non-maximum suppression.
        max_faces: most faces returned an image.
        num_threads: of LiteRT (default one) or TensorFlow (default all).

    An exported model carries the thresholds of its export: stricter ones here still apply, laxer ones cannot.
    """

    def __init__(
        self,
        model="mobilenet025",
        *,
        score_threshold: float = config_lib.Detection.score_threshold,
        iou_threshold: float = config_lib.Detection.iou_threshold,
        max_faces: int = config_lib.Detection.max_faces,
        num_threads: int | None = None,
    ):
        self._detection = config_lib.Detection(score_threshold, iou_threshold, max_faces)
        self._runtime = runtime.open_model(model, self._detection, num_threads)

    def detect(self, image: np.ndarray) -> list[Face]:
        """Finds the faces of one image.

        Args:
            image: uint8 `[H, W, 3]`, RGB.

        Returns:
            Faces, best first.

        Raises:
            ValueError: if the image has another shape or type.
        """
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Iterable[np.ndarray]) -> list[list[Face]]:
        """Finds the faces of several images of any mix of sizes; images of one size run together.

        Args:
            images: uint8 `[H, W, 3]` each, RGB.

        Returns:
            One list of faces per image, in order: the same faces that `detect` finds.
        """
        images = [check_image(image) for image in images]
        faces: list = [None] * len(images)
        groups: dict = {}
        for index, image in enumerate(images):
            groups.setdefault(image.shape, []).append(index)
        for indices in groups.values():
            step = self._runtime.max_batch or len(indices)
            for start in range(0, len(indices), step):
                chunk = indices[start : start + step]
                for index, found in zip(chunk, self._run([images[index] for index in chunk])):
                    faces[index] = found
        return faces

    def _run(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """Runs images of one size through the model."""
        scale, size = 1.0, self._runtime.image_size
        if size is not None:
            images, scale = zip(*(letterbox(image, size) for image in images))
            scale = scale[0]
            missing = self._runtime.max_batch - len(images)
            images = [*images, *[np.zeros_like(images[0])] * missing]
            outputs = {k: v[: len(images) - missing] for k, v in self._runtime.run(np.stack(images)).items()}
        else:
            outputs = self._runtime.run(np.stack(images))
        return [self._to_faces(*row, scale) for row in zip(*(outputs[key] for key in _KEYS))]

    def _to_faces(self, boxes, scores, landmarks, count, scale) -> list[Face]:
        faces = [
            Face(boxes[i] / scale, float(scores[i]), landmarks[i] / scale)
            for i in range(min(int(count), self._detection.max_faces))
        ]
        return [face for face in faces if face.score >= self._detection.score_threshold]


_KEYS = ("boxes", "scores", "landmarks", "count")


def check_image(image: np.ndarray) -> np.ndarray:
    """Returns the image if it is what a detector takes.

    Raises:
        ValueError: if not; says what came.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(
            f"`image` must be uint8 [height, width, 3], RGB. Received: {image.dtype} {list(image.shape)}"
        )
    return image


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Fits an image into a fixed size, keeping its shape, padded at the right or at the bottom.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        size: (height, width) of the result, pixels.

    Returns:
        uint8 `[height, width, 3]` and the factor from pixels of the image to pixels of the result.
    """
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if (height, width) != image.shape[:2]:
        image = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
    if (height, width) == tuple(size):
        return image, scale
    padded = np.empty((*size, 3), np.uint8)
    padded[:] = _PADDING
    padded[:height, :width] = image
    return padded, scale
