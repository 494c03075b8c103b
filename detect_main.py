"""Finds faces in images, folders, videos or a camera.

    python detect_main.py --images=examples/photos --output=/tmp/faces
    python detect_main.py --images='photos/**/*.jpg' --json=faces.jsonl --crops=/tmp/crops
    python detect_main.py --model=retinaface.tflite --images=group.jpg --json=-
    python detect_main.py --video=0 --output=/tmp/faces
    python detect_main.py --model=mobilenet025_dense --mesh --images=examples/photos --output=/tmp/faces --obj=/tmp/obj

Prints one line an image and a table at the end. An image that cannot be read is reported, skipped, and makes the exit
status 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import time

import numpy as np
import tqdm
from absl import app, flags, logging

from keras_retinaface.cli import detection_flags
from keras_retinaface.media import alignment, drawing, image_file, video

_MODEL = detection_flags.define_model("mobilenet025")
_IMAGES = flags.DEFINE_multi_string("images", [], "An image, a glob or a folder; may be given more than once.")
_VIDEO = flags.DEFINE_string("video", None, "A video file, or the number of a camera.")
_JSON = flags.DEFINE_string("json", None, "File for one JSON line an image; `-` is standard output.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for images (or the video) with faces drawn.")
_CROPS = flags.DEFINE_string("crops", None, "Folder for aligned 112 x 112 crops, best face first.")
_MESH = flags.DEFINE_bool(
    "mesh", False, "Find a mesh for every face: drawn in --output, pose in --json. Needs a model with a dense head."
)
_MESH_STYLE = flags.DEFINE_enum("mesh_style", "lines", ["lines", "colours"], "How meshes are drawn.")
_OBJ = flags.DEFINE_string("obj", None, "Folder for meshes as coloured OBJ files, best face first; needs --mesh.")
_MAX_PIXELS = detection_flags.define_max_pixels()
make_detector, _ = detection_flags.define()


@contextlib.contextmanager
def _open_json(path: str | None):
    """Yields a function that writes one line, or does nothing where no file is wanted; the file appears when done."""
    if path is None:
        yield lambda record: None
    elif path == "-":
        yield lambda record: print(json.dumps(record), flush=True)
    else:
        partial = pathlib.Path(path).with_name(f".{os.getpid()}.{pathlib.Path(path).name}")
        try:
            with open(partial, "w", encoding="utf-8") as file:
                yield lambda record: file.write(json.dumps(record) + "\n")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _unique_stem(path: str, taken: set[str]) -> str:
    """Returns a name for the outputs of an image; images of one name in several folders do not meet."""
    stem, number = pathlib.Path(path).stem, 1
    while stem in taken:
        number += 1
        stem = f"{pathlib.Path(path).stem}_{number}"
    taken.add(stem)
    return stem


def _draw(image: np.ndarray, faces: list) -> np.ndarray:
    if _MESH.value:
        from keras_retinaface.mesh import drawing as mesh_drawing  # takes TensorFlow, which a .tflite does without

        return mesh_drawing.meshes(image, faces, has_lines=_MESH_STYLE.value == "lines")
    return drawing.faces(image, faces)


def _save_pictures(stem: str, image: np.ndarray, faces: list) -> None:
    if _OUTPUT.value:
        image_file.write(pathlib.Path(_OUTPUT.value) / f"{stem}.jpg", _draw(image, faces))
    _save_faces(stem, image, faces)


def _save_faces(stem: str, image: np.ndarray, faces: list) -> None:
    """Writes what has a file for every face."""
    if _CROPS.value:
        _save_crops(stem, image, faces)
    if _OBJ.value:
        _save_meshes(stem, faces)


def _save_meshes(stem: str, faces: list) -> None:
    for index, face in enumerate(faces):
        face.mesh.write_obj(pathlib.Path(_OBJ.value) / f"{stem}_{index}.obj")


def _save_crops(stem: str, image: np.ndarray, faces: list) -> None:
    for index, face in enumerate(faces):
        image_file.write(pathlib.Path(_CROPS.value) / f"{stem}_{index}.jpg", alignment.crop(image, face.landmarks))


def detect_images(paths: list[str]) -> int:
    """Detects on every image; returns how many could not be read."""
    found_by = make_detector(_MODEL.value, mesh=_MESH.value)
    num_faces, broken, seconds, stems = 0, 0, 0.0, set()
    with _open_json(_JSON.value) as write_json:
        for path in tqdm.tqdm(paths, unit="image", disable=None):
            try:
                image = image_file.read(path, max_pixels=_MAX_PIXELS.value)
            except image_file.ImageError as error:
                broken += 1
                logging.error("%s", error)
                write_json({"image": path, "error": str(error)})
                continue
            start = time.perf_counter()
            faces = found_by.detect(image)
            seconds += time.perf_counter() - start
            num_faces += len(faces)
            height, width = image.shape[:2]
            write_json({"image": path, "width": width, "height": height, "faces": [f.to_dict() for f in faces]})
            _save_pictures(_unique_stem(path, stems), image, faces)
    done = len(paths) - broken
    print(
        f"{'images':>8} {'broken':>8} {'faces':>8} {'ms/image':>9}\n"
        f"{done:>8} {broken:>8} {num_faces:>8} {1000 * seconds / max(done, 1):>9.1f}",
        file=sys.stderr,
    )
    return broken


def detect_video(source: str) -> None:
    """Detects on every frame; Ctrl-C ends a camera and keeps what was written."""
    found_by, reader = make_detector(_MODEL.value, mesh=_MESH.value), video.Reader(source)
    name = f"camera{source}" if source.isdigit() else pathlib.Path(source).stem
    num_faces, num_frames = 0, 0
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        write_json = stack.enter_context(_open_json(_JSON.value))
        writer = None
        if _OUTPUT.value:
            path = pathlib.Path(_OUTPUT.value) / f"{name}.mp4"
            writer = stack.enter_context(video.Writer(path, reader.frame_rate))

        def finish(image, faces, index):
            if writer is not None:
                writer.write(_draw(image, faces))
            _save_faces(f"{name}_{index}", image, faces)

        # Reading, detecting, and drawing and writing take turns on no frame: each is a thread.
        submit = stack.enter_context(video.behind(finish))
        with contextlib.suppress(KeyboardInterrupt):
            for image in tqdm.tqdm(video.ahead(reader), total=reader.num_frames, unit="frame", disable=None):
                faces = found_by.detect(image)
                height, width = image.shape[:2]
                record = {"image": f"{source}#{num_frames}", "width": width, "height": height}
                write_json({**record, "faces": [face.to_dict() for face in faces]})
                submit(image, faces, num_frames)
                num_faces += len(faces)
                num_frames += 1
    if not num_frames:
        raise ValueError(f"{source}: holds no frames")
    rate = num_frames / (time.perf_counter() - start)
    print(f"{'frames':>8} {'faces':>8} {'frames/s':>9}\n{num_frames:>8} {num_faces:>8} {rate:>9.1f}", file=sys.stderr)


def main(argv):
    """Detects on what the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if bool(_IMAGES.value) == (_VIDEO.value is not None):
        raise app.UsageError("give either --images or --video")
    paths = [path for pattern in _IMAGES.value for path in image_file.find(pattern)]
    if _IMAGES.value and not paths:
        raise app.UsageError(f"--images={_IMAGES.value}: no images there")
    if _OBJ.value and not _MESH.value:
        raise app.UsageError("--obj needs --mesh")
    for folder in (_OUTPUT.value, _CROPS.value, _OBJ.value):
        if folder:
            os.makedirs(folder, exist_ok=True)
    try:
        if _VIDEO.value is not None:
            detect_video(_VIDEO.value)
            return 0
        return 1 if detect_images(paths) else 0
    except ValueError as error:
        logging.error("%s", error)
        return 1


if __name__ == "__main__":
    app.run(main)
