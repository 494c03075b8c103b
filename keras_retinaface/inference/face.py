"""What is found: a face, and the faces of an image, as crops, JSON, a table, or what other libraries read."""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Iterable, Sequence

import numpy as np

from keras_retinaface.geometry import five_points
from keras_retinaface.media import alignment, picture

COLUMNS = ("x1", "y1", "x2", "y2", "score", *(f"{name}_{axis}" for name in five_points.NAMES for axis in "xy"))
_POSE = ("yaw", "pitch", "roll")


@dataclasses.dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the image it was found in.

    Attributes:
        box: float32 `[4]`, xyxy.
        score: probability of a face, in [0, 1].
        landmarks: float32 `[5, 2]`, (x, y): eyes, nose tip, mouth corners, left of the image first.
        mesh: a `reconstruction.Mesh`, or None if none was asked for.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    mesh: typing.Any = None

    def crop(
        self,
        image: picture.Picture,
        size: int | None = alignment.CROP_SIZE,
        margin: float = 0.0,
        aligned: bool = True,
    ) -> np.ndarray:
        """Cuts the face out of its image; what lies outside the image is black.

        Args:
            image: image that the face was found in: a path, a Pillow image or an array.
            size: side of the crop, pixels. None, with `aligned=False` alone: the pixels of the box as they are.
            margin: what is added on each side, as a share of the crop without it.
            aligned: whether the face is turned and scaled so that its landmarks lie where recognition wants them, as
                ArcFace's 112 pixels have it. False: the box, in a square about its middle, so that it is not stretched.

        Returns:
            uint8 `[size, size, 3]`, RGB.

        Raises:
            ValueError: if an argument is out of range.
        """
        array = picture.as_array(image)
        if not aligned:
            return alignment.plain_crop(array, self.box, size, margin)
        if size is None:
            raise ValueError("`size` must be a number of pixels where `aligned`. Received: size=None")
        return alignment.crop(array, self.landmarks, size, margin)

    def to_dict(self) -> dict:
        """Returns plain lists, ready for JSON, rounded to a thousandth of a pixel; with a mesh its `pose` too."""
        return {
            "box": [round(float(v), 3) for v in self.box],
            "score": round(float(self.score), 6),
            "landmarks": [[round(float(v), 3) for v in point] for point in self.landmarks],
            **({} if self.mesh is None else {"pose": self.mesh.pose}),
        }


class Faces(list):
    """The faces of one image, best first: a list of `Face`s that other libraries can have too."""

    def to_dataframe(self):
        """Returns a `pandas.DataFrame` with a row a face: see `to_dataframe` of this module."""
        return to_dataframe(self)

    def to_supervision(self):
        """Returns `supervision.Detections`: `xyxy`, `confidence`, `class_id` 0, and in `data` names and landmarks.

        Raises:
            ModuleNotFoundError: if the package is not installed; says how it is.
        """
        supervision = _optional("supervision", "to_supervision")
        return supervision.Detections(
            xyxy=_stack([face.box for face in self], (4,)),
            confidence=_stack([face.score for face in self], ()),
            class_id=np.zeros(len(self), int),
            data={
                "class_name": np.array(["face"] * len(self), dtype="<U4"),
                "landmarks": _stack([face.landmarks for face in self], (5, 2)),
            },
        )


def to_dataframe(found: Iterable, images: Sequence | None = None):
    """Makes a table of faces, a row each: `COLUMNS`, pixels; with meshes `yaw`, `pitch` and `roll` too, degrees.

    Args:
        found: faces of one image; or with `images` the faces of each, as `Detector.detect_batch` gives them.
        images: names or paths of the images, the column `image`; one without faces has no row.

    Returns:
        A `pandas.DataFrame`.

    Raises:
        ModuleNotFoundError: if pandas is not installed; says how it is.
        ValueError: if there are not as many images as lists of faces.
    """
    pandas = _optional("pandas", "to_dataframe")
    found = list(found)
    if images is not None and len(images) != len(found):
        raise ValueError(f"`images` must name as many as `found` has. Received: {len(images)} for {len(found)}")
    named = [("", face) for face in found] if images is None else []
    if images is not None:
        named = [(str(name), face) for name, faces in zip(images, found) for face in faces]
    has_pose = any(face.mesh is not None for _, face in named)
    columns = [*([] if images is None else ["image"]), *COLUMNS, *(_POSE if has_pose else ())]
    return pandas.DataFrame([_row(name, face) for name, face in named], columns=columns)


def _row(name: str, face: Face) -> dict:
    values = [*face.box, face.score, *np.ravel(face.landmarks)]
    pose = {} if face.mesh is None else {key: face.mesh.pose[key] for key in _POSE}
    return {"image": name, **{key: float(value) for key, value in zip(COLUMNS, values)}, **pose}


def _stack(rows: list, shape: tuple) -> np.ndarray:
    return np.array(rows, np.float32).reshape(len(rows), *shape)


def _optional(module: str, user: str):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        said = f"`{user}` needs {module}, which is not installed: pip install {module}"
        raise ModuleNotFoundError(said, name=module) from error
