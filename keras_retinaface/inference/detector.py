"""NumPy images in, faces out, for models of every kind. Imports no TensorFlow of its own."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface.inference import face as face_lib
from keras_retinaface.inference import merging, overview, runtime
from keras_retinaface.inference import view as view_lib
from keras_retinaface.media import picture as picture_lib

Face, Faces = face_lib.Face, face_lib.Faces

# Pictures of one size run together up to this many pixels; beyond, memory grows and a CPU gains nothing.
_MAX_BATCH_PIXELS = 1 << 21
# Pictures that a batch holds at a time, in pixels; of more, the first are done before the next are read.
_MOST_HELD_PIXELS = 1 << 27
# Threads of a batch: beyond, they only wait for memory.
_MOST_WORKERS = 8
_THRESHOLDS = ("score_threshold", "iou_threshold", "max_faces", "voting_iou")


class Detector:
    """Finds faces.

    Args:
        model: a preset (`mobilenet025`), a workdir, a `.keras`, `.tflite` or `.onnx` file, a SavedModel directory, or a
            RetinaFace. The preset itself runs without TensorFlow where that is not loaded and there is no GPU for it.
        score_threshold: detections under this score are dropped.
        iou_threshold: overlap from which suppression takes two boxes for one face.
        max_faces: most faces returned an image.
        image_size: what the network sees: "original", a number (long side, pixels) or (short side, long side). Over 640
            pixels it also sees a quarter of that size, and so on, for faces that are too large for it: see `overview`.
        scales: short sides in pixels to look at one after the other, instead of `image_size`; these and no others.
        use_flip: whether to look at every picture mirrored too.
        use_voting: whether a face found in several pictures is their mean (landmarks too) instead of the best one.
        tile: largest side of a picture, pixels; larger ones are cut into overlapping tiles. None: never.
        min_face: faces whose shorter side is under this many pixels are dropped.
        num_threads: threads of LiteRT (default one), onnxruntime or TensorFlow (default all).
        voting_iou: whether, within one picture, a face's box is the mean of all candidates that overlap the best one by
            this or more, weighted by squared score: 0.5 fits small faces better. 0 takes the best one as it is.
        mesh: whether each face gets a mesh, which needs a Keras model with a dense head and no mirrored views.

    Any number of threads may share a detector and find what one finds. For a `.tflite` file each thread that runs at
    the same time takes an interpreter and its memory, up to the number of cores over `num_threads`; others wait. One
    that TensorFlow runs does not survive a fork and says so. A detector pickles, as its arguments, if `model` is a name
    or a path.

    An exported model carries the thresholds of its export: stricter ones here still apply, laxer ones cannot. It votes
    if its export says so.

    Raises:
        ValueError: if an option is out of range or the model cannot be opened.
    """

    def __init__(
        self,
        model="mobilenet025",
        *,
        score_threshold: float = config_lib.Detection.score_threshold,
        iou_threshold: float = config_lib.Detection.iou_threshold,
        max_faces: int = config_lib.Detection.max_faces,
        image_size: str | int | tuple[int, int] = view_lib.ORIGINAL,
        scales: Sequence[int] = (),
        use_flip: bool = False,
        use_voting: bool = False,
        tile: int | None = None,
        min_face: float = 0.0,
        num_threads: int | None = None,
        voting_iou: float = config_lib.Detection.voting_iou,
        mesh: bool = False,
    ):
        if mesh and use_flip:
            raise ValueError("`use_flip` and `mesh` exclude each other: codes of mirrored faces cannot be turned back")
        self._detection = config_lib.Detection(score_threshold, iou_threshold, max_faces, voting_iou=voting_iou)
        self._image_size, self._scales = image_size, tuple(scales)
        self._use_flip, self._use_voting, self._tile, self._min_face = use_flip, use_voting, tile, min_face
        self._first_views((480, 640))  # a wrong option shows here, not at the first image
        self._has_mesh = mesh
        self._model, self._num_threads = model, num_threads
        self._runtime = runtime.open_model(model, self._detection, num_threads, has_dense=mesh)

    def __reduce__(self):
        """Pickles as its arguments: the other process opens the model itself, from the same name or path."""
        if not isinstance(self._model, (str, os.PathLike)):
            raise TypeError(
                "a `Detector` pickles if its `model` is a name or a path: save the model and give its path. "
                f"Received: {type(self._model).__name__}"
            )
        return functools.partial(Detector, self._model, **self._options()), ()

    def _options(self) -> dict:
        options = {name: getattr(self._detection, name) for name in _THRESHOLDS}
        options |= {name: getattr(self, f"_{name}") for name in ("image_size", "scales", "use_flip", "use_voting")}
        options |= {name: getattr(self, f"_{name}") for name in ("tile", "min_face", "num_threads")}
        return {**options, "mesh": self._has_mesh}

    def __repr__(self):
        """Shows the model and what was asked for beyond the defaults."""
        model = repr(str(self._model)) if isinstance(self._model, (str, os.PathLike)) else f"<{self._model.name}>"
        defaults = inspect.signature(Detector).parameters
        given = [f"{name}={value!r}" for name, value in self._options().items() if value != defaults[name].default]
        return f"Detector({', '.join([model, *given])})"

    def __call__(self, image: picture_lib.Picture) -> Faces:
        """Finds the faces of one image, as `detect`."""
        return self.detect(image)

    def detect(self, image: picture_lib.Picture) -> Faces:
        """Finds the faces of one image.

        Args:
            image: a path of a file; a Pillow image; or an array uint8 `[H, W, 3]`, RGB. The first two are turned
                upright as their EXIF says, and faces are in pixels of the upright image.

        Returns:
            Faces, best first.

        Raises:
            ValueError: if it is of another kind, shape or type, or cannot be read.
        """
        return self._detect([picture_lib.as_array(image)], workers=None)[0]

    def detect_batch(self, images: Iterable[picture_lib.Picture]) -> list[Faces]:
        """Finds the faces of several images of any mix of sizes; those of one size run together, others side by side.

        Args:
            images: each as for `detect`. Of many only some are held at a time.

        Returns:
            One list of faces per image, in order: the same faces that `detect` finds.

        Raises:
            ValueError: if one is of another kind, shape or type, or cannot be read.
        """
        if picture_lib.is_one(images):
            raise ValueError(f"`images` must be several; `detect` takes one. Received: {type(images).__name__}")
        num_workers = min(_MOST_WORKERS, max(1, runtime.num_cores() // (self._num_threads or 1)))
        found: list[Faces] = []
        with futures.ThreadPoolExecutor(num_workers) as workers:
            for held in _held(images, workers, num_workers):
                found += self._detect(held, workers)
        return found

    def _detect(self, images: list[np.ndarray], workers: futures.Executor | None) -> list[Faces]:
        views = [self._views(image.shape[:2]) for image in images]
        parts = self._find(images, views, workers)
        chosen = [overview.choose(*image_rows) for image_rows in zip(images, views, parts)]
        return [self._to_faces(image_parts) for image_parts in chosen]

    def _first_views(self, size: tuple[int, int]) -> list[view_lib.View]:
        if self._scales:
            factors = view_lib.pyramid(size, self._scales)
        else:
            factors = [view_lib.scale_of(size, self._image_size)]
        return view_lib.views(size, factors, flip=self._use_flip, tile=self._tile)

    def _views(self, size: tuple[int, int]) -> list[view_lib.View]:
        views, choices = self._first_views(size), self._runtime.image_sizes
        if self._scales:  # what was asked for and nothing else
            return views
        inputs = [view.input_size for view in views] if choices else []
        fits = [view_lib.fit(wanted, view_lib.best_size(wanted, choices)) for wanted in inputs]
        return overview.plan(views, max(fits, default=1.0))

    def _find(
        self, images, views: list[list[view_lib.View]], workers: futures.Executor | None
    ) -> list[list[merging.Detections]]:
        """Returns what each view of each image shows, in pixels of the image; None for those that were not needed."""
        parts: list[list] = [[None] * len(image_views) for image_views in views]
        wanted = [(index, row) for index, image_views in enumerate(views) for row in range(len(image_views))]
        if self._runtime.image_sizes:
            # Of a fixed size, a smaller picture may take as long as a large one: only if there is something to see.
            first = [(index, row) for index, row in wanted if not views[index][row].is_added]
            self._run_views(images, views, first, parts, workers)
            has_large = [overview.has_large(*image_rows) for image_rows in zip(views, parts)]
            wanted = [(index, row) for index, row in wanted if views[index][row].is_added and has_large[index]]
        self._run_views(images, views, wanted, parts, workers)
        return parts

    def _run_views(self, images, views, wanted: list[tuple[int, int]], parts, workers: futures.Executor | None) -> None:
        """Fills in `parts` for the wanted (image, view); pictures of one size run together, others side by side."""
        groups: dict = {}
        for index, row in wanted:
            groups.setdefault((views[index][row].input_size, views[index][row].is_added), []).append((index, row))
        chunks = []
        for ((height, width), is_added), jobs in groups.items():
            step = self._runtime.max_batch or max(1, _MAX_BATCH_PIXELS // (height * width))
            chunks += [(jobs[start : start + step], is_added) for start in range(0, len(jobs), step)]

        def run(chunk, is_added: bool) -> None:
            pictures = [view_lib.cut(images[index], views[index][row]) for index, row in chunk]
            for (index, row), found in zip(chunk, self._run(pictures, may_enlarge=not is_added)):
                parts[index][row] = merging.to_image(found, views[index][row])

        # Cutting, suppression and small layers keep one core; large chunks come first, so that none is the last alone.
        chunks.sort(key=lambda chunk: -sum(np.prod(views[index][row].input_size) for index, row in chunk[0]))
        for _ in (map if workers is None else workers.map)(lambda chunk: run(*chunk), chunks):
            pass

    def _run(self, pictures: list[np.ndarray], *, may_enlarge: bool) -> list[merging.Detections]:
        """Runs pictures of one size through the model."""
        scale = 1.0
        if self._runtime.image_sizes:
            size = view_lib.best_size(pictures[0].shape[:2], self._runtime.image_sizes)
            fitted = [view_lib.letterbox(picture, size, may_enlarge=may_enlarge) for picture in pictures]
            scale = fitted[0][1]
            pictures = [picture for picture, _ in fitted]
        # One picture of a photo is large enough for a copy to be felt.
        outputs = self._runtime.run(pictures[0][None] if len(pictures) == 1 else np.stack(pictures))
        found = []
        for index in range(len(pictures)):
            count = int(outputs["count"][index])
            boxes, scores, landmarks = (outputs[name][index][:count] for name in ("boxes", "scores", "landmarks"))
            dense = outputs["dense"][index][:count] if self._has_mesh else None
            found.append(merging.Detections(boxes / scale, scores, landmarks / scale, dense))
        return found

    def _to_faces(self, parts: list[merging.Detections]) -> Faces:
        detection = self._detection
        found = merging.merge(parts, detection.iou_threshold, use_voting=self._use_voting)
        is_kept = found.scores >= detection.score_threshold
        if self._min_face > 0:
            is_kept &= merging.is_large_enough(found.boxes, self._min_face)
        found = found.select(is_kept).select(slice(detection.max_faces))
        meshes = [None] * len(found.scores)
        if self._has_mesh and meshes:
            # Here and not above: it takes TensorFlow, which detection alone may do without.
            from keras_retinaface.mesh import reconstruction

            meshes = reconstruction.reconstruct(found.boxes, found.landmarks, found.dense)
        rows = zip(found.boxes, found.scores, found.landmarks, meshes)
        return Faces(Face(box, float(score), landmarks, mesh) for box, score, landmarks, mesh in rows)


def _held(images: Iterable, workers: futures.Executor, num_ahead: int) -> Iterator[list[np.ndarray]]:
    """Yields lists of images as arrays, each of which fits in memory."""
    numbered, held, num_pixels = enumerate(images), [], 0
    while block := list(itertools.islice(numbered, num_ahead)):
        for array in workers.map(lambda entry: picture_lib.as_array(entry[1], f"images[{entry[0]}]"), block):
            held.append(array)
            num_pixels += array.shape[0] * array.shape[1]
        if num_pixels >= _MOST_HELD_PIXELS:
            yield held
            held, num_pixels = [], 0
    if held:
        yield held
