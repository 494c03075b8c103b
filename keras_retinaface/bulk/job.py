"""What is done with one image, from its name to its line and its pictures; pickles, so that any process can do it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from keras_retinaface.bulk import pictures as pictures_lib
from keras_retinaface.media import image_file


class Item(NamedTuple):
    """An image to be done.

    Attributes:
        name: what it is called in lines and messages; a path, where the job reads paths.
        stem: first part of the names of the files that its pictures are written to.
        source: what the job's `read` wants to know more, if anything.
    """

    name: str
    stem: str = ""
    source: object = None


@dataclasses.dataclass
class Outcome:
    """What came of an image.

    Attributes:
        line: `{"image", "width", "height", "faces"}` or `{"image", "error"}`, ready for JSON.
        seconds: seconds that finding took.
        unwritten: one line for each picture that could not be drawn or written.
    """

    line: dict
    seconds: float = 0.0
    unwritten: tuple[str, ...] = ()


def broken(name: str, said: str) -> Outcome:
    """Returns what comes of an image that cannot be had."""
    return Outcome({"image": name, "error": said})


class Job:
    """Finds faces in images.

    Args:
        make_detector: gives the detector; called once a process, by `open`.
        read: gives the pixels of an item, as `ReadFile` does.
        pictures: writes what is drawn; None writes none.
    """

    def __init__(
        self,
        make_detector: Callable,
        read: Callable[[Item], np.ndarray],
        pictures: pictures_lib.Pictures | None = None,
    ):
        self._make_detector, self._read, self._pictures = make_detector, read, pictures
        self._detector = None

    def __getstate__(self):
        return {**self.__dict__, "_detector": None}

    def with_threads(self, num_threads: int) -> Job:
        """Returns a job whose network takes so many threads, for one of several processes."""
        return Job(functools.partial(self._make_detector, num_threads=num_threads), self._read, self._pictures)

    def open(self) -> None:
        """Opens the model; its errors are the caller's."""
        if self._detector is None:
            self._detector = self._make_detector()

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns what comes of items, in order; the pixels of several go through the network together.

        Whatever a picture does to a decoder or a network costs its own line alone.
        """
        self.open()
        outcomes: list[Outcome | None] = [None] * len(items)
        images: dict[int, np.ndarray] = {}
        for index, item in enumerate(items):
            try:
                images[index] = self._read(item)
            except Exception as error:  # of any kind: decoders raise what they like
                outcomes[index] = _broken_by(item, error)
        start = time.perf_counter()
        try:
            found = dict(zip(images, self._detector.detect_batch(list(images.values()))))
            seconds = (time.perf_counter() - start) / max(len(images), 1)
        except Exception as error:
            if len(images) > 1:  # which one it was shows alone
                for index in images:
                    outcomes[index] = self.run([items[index]])[0]
            else:
                for index in images:
                    outcomes[index] = _broken_by(items[index], error)
            return outcomes
        for index, faces in found.items():
            outcomes[index] = self._finish(items[index], images.pop(index), faces, seconds)
        return outcomes

    def _finish(self, item: Item, image: np.ndarray, faces: list, seconds: float) -> Outcome:
        height, width = image.shape[:2]
        line = {"image": item.name, "width": width, "height": height, "faces": [face.to_dict() for face in faces]}
        unwritten = self._pictures.write(item.name, item.stem, image, faces) if self._pictures else ()
        return Outcome(line, seconds, tuple(unwritten))


def _broken_by(item: Item, error: Exception) -> Outcome:
    said = str(error) if isinstance(error, image_file.ImageError) else f"{item.name}: {pictures_lib.reason(error)}"
    return broken(item.name, said)


@dataclasses.dataclass(frozen=True)
class ReadFile:
    """Reads the file that an item is named by."""

    max_pixels: int | None = None

    def __call__(self, item: Item) -> np.ndarray:
        """Returns its pixels."""
        return image_file.read(item.name, max_pixels=self.max_pixels)
