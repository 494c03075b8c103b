"""What is drawn of an image: faces on it, crops and meshes, each a file in a folder."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from keras_retinaface.media import alignment, drawing, image_file


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Folders for what is drawn; None writes none.

    Attributes:
        output: folder for the image with faces drawn.
        crops: folder for aligned crops, best face first.
        obj: folder for meshes.
        has_meshes: whether faces have meshes, which are drawn instead of their boxes.
        has_lines: whether meshes are drawn as lines.
    """

    output: str | None = None
    crops: str | None = None
    obj: str | None = None
    has_meshes: bool = False
    has_lines: bool = True

    def draw(self, image: np.ndarray, faces: list) -> np.ndarray:
        """Returns the image with its faces drawn."""
        if self.has_meshes:
            from keras_retinaface.mesh import drawing as mesh_drawing  # takes TensorFlow, which a .tflite does without

            return mesh_drawing.meshes(image, faces, has_lines=self.has_lines)
        return drawing.faces(image, faces)

    def write(self, name: str, stem: str, image: np.ndarray, faces: list, *, has_drawn: bool = True) -> list[str]:
        """Writes the pictures of an image; one that cannot be drawn or written costs no other.

        Args:
            name: the image's name, for messages.
            stem: first part of the names of the files.
            image: uint8 `[H, W, 3]`, RGB.
            faces: found in it.
            has_drawn: whether the image itself is written too; of a film it is not.

        Returns:
            One line for each that could not be drawn or written.
        """
        saves: tuple[tuple[str, Callable], ...] = (
            ("output", self._save_drawn),
            ("crops", self._save_crops),
            ("obj", self._save_meshes),
        )
        unwritten = []
        for flag, save in saves[0 if has_drawn else 1 :]:
            folder = getattr(self, flag)
            if not folder:
                continue
            try:
                save(pathlib.Path(folder), stem, image, faces)
            except Exception as error:  # of any kind: encoders and a full disk cost their own picture alone
                unwritten.append(f"{name}: cannot be written to --{flag}={folder}: {reason(error)}")
        return unwritten

    def _save_drawn(self, folder: pathlib.Path, stem: str, image: np.ndarray, faces: list) -> None:
        image_file.write(folder / f"{stem}.jpg", self.draw(image, faces))

    def _save_crops(self, folder: pathlib.Path, stem: str, image: np.ndarray, faces: list) -> None:
        for index, face in enumerate(faces):
            image_file.write(folder / f"{stem}_{index}.jpg", alignment.crop(image, face.landmarks))

    def _save_meshes(self, folder: pathlib.Path, stem: str, image: np.ndarray, faces: list) -> None:
        for index, face in enumerate(faces):
            face.mesh.write_obj(folder / f"{stem}_{index}.obj")


def reason(error: BaseException) -> str:
    """Returns what an error says in one line; which kind it is only where its text may not tell."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return said if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {said}"
