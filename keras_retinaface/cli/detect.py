"""Finds faces in images, folders, videos or a camera.

    python detect_main.py --images=examples/photos --output=/tmp/faces
    python detect_main.py --images='photos/**/*.jpg' --json=faces.jsonl --crops=/tmp/crops
    python detect_main.py --model=retinaface.tflite --images=group.jpg --json=-
    python detect_main.py --video=0 --output=/tmp/faces
    python detect_main.py --model=mobilenet025_dense --mesh --images=examples/photos --output=/tmp/faces --obj=/tmp/obj

Prints a table at the end. An image that cannot be read or drawn is reported, costs nothing else, and makes the exit
status 1. Lines of --json are in the file as soon as they are found, so that Ctrl-C loses none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
import tqdm
from absl import app, flags, logging

from keras_retinaface import output, stopping
from keras_retinaface.cli import detection_flags
from keras_retinaface.formats import json_lines
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


@dataclasses.dataclass
class _Tally:
    """What a run came to."""

    images: int = 0
    broken: int = 0
    unwritten: int = 0
    faces: int = 0
    seconds: float = 0.0

    def status(self) -> int:
        """Returns the exit status of a run that nothing stopped."""
        return 1 if self.broken or self.unwritten else 0


def unique_stems(paths: Iterable[str]) -> list[str]:
    """Returns names for the outputs of images; images of one name in several folders do not meet."""
    numbers: dict[str, int] = {}
    stems = []
    for path in paths:
        name = stem = pathlib.Path(path).stem
        number = numbers.get(name, 0) + 1
        while number > 1 and (stem := f"{name}_{number}") in numbers:
            number += 1
        numbers[name] = number
        numbers.setdefault(stem, 1)
        stems.append(stem)
    return stems


def _draw(image: np.ndarray, faces: list) -> np.ndarray:
    if _MESH.value:
        from keras_retinaface.mesh import drawing as mesh_drawing  # takes TensorFlow, which a .tflite does without

        return mesh_drawing.meshes(image, faces, has_lines=_MESH_STYLE.value == "lines")
    return drawing.faces(image, faces)


def _save_drawn(stem: str, image: np.ndarray, faces: list) -> None:
    image_file.write(pathlib.Path(_OUTPUT.value) / f"{stem}.jpg", _draw(image, faces))


def _save_crops(stem: str, image: np.ndarray, faces: list) -> None:
    for index, face in enumerate(faces):
        image_file.write(pathlib.Path(_CROPS.value) / f"{stem}_{index}.jpg", alignment.crop(image, face.landmarks))


def _save_meshes(stem: str, image: np.ndarray, faces: list) -> None:
    for index, face in enumerate(faces):
        face.mesh.write_obj(pathlib.Path(_OBJ.value) / f"{stem}_{index}.obj")


def _save(saves: Iterable, name: str, stem: str, image: np.ndarray, faces: list, tally: _Tally) -> None:
    """Writes pictures; one that cannot be drawn or written is told, and the others come."""
    for flag, save in saves:
        if not flag.value:
            continue
        try:
            save(stem, image, faces)
        except Exception as error:  # of any kind: encoders and a full disk cost their own picture alone
            tally.unwritten += 1
            logging.error("%s: cannot be written to --%s=%s: %s", name, flag.name, flag.value, _reason(error))


def _find(found_by, name: str, read_image: Callable, write_json: Callable, tally: _Tally) -> tuple | None:
    """Detects on one image and writes its line; returns it with its faces, or None where there are none to have."""
    try:
        image = read_image()
        start = time.perf_counter()
        faces = found_by.detect(image)
    except Exception as error:  # of any kind: what a picture does to a decoder or a network costs its own line alone
        tally.broken += 1
        said = str(error) if isinstance(error, image_file.ImageError) else f"{name}: {_reason(error)}"
        logging.error("%s", said)
        write_json({"image": name, "error": said})
        return None
    tally.seconds += time.perf_counter() - start
    tally.images += 1
    tally.faces += len(faces)
    height, width = image.shape[:2]
    write_json({"image": name, "width": width, "height": height, "faces": [face.to_dict() for face in faces]})
    return image, faces


def _reason(error: Exception) -> str:
    """Returns what an error says in one line; which kind it is only where its text may not tell."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return said if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {said}"


def detect_images(paths: list[str]) -> int:
    """Detects on every image; returns the exit status."""
    stems, tally, status = unique_stems(paths), _Tally(), None
    _check_outputs(paths, stems)
    found_by = make_detector(_MODEL.value, mesh=_MESH.value)
    saves = ((_OUTPUT, _save_drawn), (_CROPS, _save_crops), (_OBJ, _save_meshes))
    try:
        with json_lines.open(_JSON.value) as write_json:
            for path, stem in zip(tqdm.tqdm(paths, unit="image", disable=None), stems):
                read = functools.partial(image_file.read, path, max_pixels=_MAX_PIXELS.value)
                found = _find(found_by, path, read, write_json, tally)
                if found is not None:
                    _save(saves, path, stem, *found, tally)
    except KeyboardInterrupt as error:
        status = stopping.status_of(error)
        logging.error("stopped after %d of %d images", tally.images + tally.broken, len(paths))
    if tally.unwritten:
        logging.error("%d pictures could not be written", tally.unwritten)
    print(
        f"{'images':>8} {'broken':>8} {'faces':>8} {'ms/image':>9}\n"
        f"{tally.images:>8} {tally.broken:>8} {tally.faces:>8} {1000 * tally.seconds / max(tally.images, 1):>9.1f}",
        file=sys.stderr,
    )
    return tally.status() if status is None else status


def _draw_or_not(image: np.ndarray, faces: list, name: str, tally: _Tally) -> np.ndarray:
    """Draws faces on a frame; one that cannot be drawn on keeps its place in the film."""
    try:
        return _draw(image, faces)
    except Exception as error:
        tally.unwritten += 1
        logging.error("%s: cannot be drawn: %s", name, _reason(error))
        return image


def detect_video(source: str) -> int:
    """Detects on every frame; returns the exit status. What is written when it is stopped stays, a film so far too."""
    is_camera = video.is_camera(source)
    name = f"camera{source}" if is_camera else pathlib.Path(source).stem
    film = pathlib.Path(_OUTPUT.value) / f"{name}.mp4" if _OUTPUT.value else None
    _check_outputs([source], [], film=film)
    reader = video.Reader(source)
    found_by = make_detector(_MODEL.value, mesh=_MESH.value)
    tally, status = _Tally(), None
    start = time.perf_counter()
    try:
        _detect_frames(found_by, source, reader, name, film, tally)
    except KeyboardInterrupt as error:
        # Nothing but Ctrl-C ends a camera.
        status = 0 if is_camera and not isinstance(error, stopping.Terminated) else stopping.status_of(error)
        logging.error("stopped after %d frames", tally.images + tally.broken)
    num_frames = tally.images + tally.broken
    if not num_frames and status is None:
        raise ValueError(f"{source}: holds no frames")
    rate = num_frames / (time.perf_counter() - start)
    print(f"{'frames':>8} {'faces':>8} {'frames/s':>9}\n{num_frames:>8} {tally.faces:>8} {rate:>9.1f}", file=sys.stderr)
    if status is None and video.is_cut_off(reader, source):
        status = 1
    return tally.status() if status is None else status


def _detect_frames(found_by, source: str, reader: video.Reader, name: str, film: pathlib.Path | None, tally) -> None:
    """Detects, draws and writes until there are no more frames."""
    saves = ((_CROPS, _save_crops), (_OBJ, _save_meshes))
    with contextlib.ExitStack() as stack:
        write_json = stack.enter_context(json_lines.open(_JSON.value))
        writer = stack.enter_context(video.Writer(film, reader.frame_rate)) if film else None

        def finish(image, faces, index):
            frame = f"{source}#{index}"
            if writer is not None:
                writer.write(_draw_or_not(image, faces, frame, tally))
            _save(saves, frame, f"{name}_{index}", image, faces, tally)

        # Reading, detecting, and drawing and writing take turns on no frame: each is a thread.
        submit = stack.enter_context(video.behind(finish))
        frames = tqdm.tqdm(video.ahead(reader), total=reader.num_frames, unit="frame", disable=None)
        for index, image in enumerate(frames):
            found = _find(found_by, f"{source}#{index}", lambda image=image: image, write_json, tally)
            submit(image, found[1] if found else [], index)


def _check_outputs(sources: list[str], stems: list[str], film: pathlib.Path | None = None) -> None:
    """Makes sure, before anything is written, that outputs can be and that they replace nothing that is read."""
    originals = output.Originals([*sources, _MODEL.value])
    if _JSON.value and _JSON.value != "-":
        output.check_file(_JSON.value, _JSON.name)
        originals.check(_JSON.value, _JSON.name)
    for flag in (_OUTPUT, _CROPS, _OBJ):
        if flag.value:
            output.make_folder(flag.value, flag.name)
    drawn = [film] if film else [pathlib.Path(_OUTPUT.value) / f"{stem}.jpg" for stem in stems] if _OUTPUT.value else []
    for path in drawn:
        originals.check(path, _OUTPUT.name)
    names = {**{stem.casefold(): stem for stem in stems}, **{stem: stem for stem in stems}}

    def name_of(there: str, suffix: str) -> str | None:
        """Returns the name of a face's file that this run may write where another is."""
        match = re.fullmatch(r"(.+)_(0|[1-9]\d*)(\.\w+)", there, re.DOTALL)
        if match is None or match[3].casefold() != suffix:
            return None
        # Of a film there are as many stems as frames; nothing that is read looks like one but by intent.
        stem = match[1] if not stems else names.get(match[1], names.get(match[1].casefold()))
        return stem and f"{stem}_{match[2]}{suffix}"

    for flag, suffix in ((_CROPS, ".jpg"), (_OBJ, ".obj")):
        if flag.value:
            originals.check_names(flag.value, flag.name, functools.partial(name_of, suffix=suffix))


def _check_flags() -> None:
    """Makes sure that no flag that was given is without an effect."""
    detection_flags.check_used(_MESH.value, "needs --mesh", [_OBJ])
    detection_flags.check_used(
        bool(_JSON.value or _OUTPUT.value or _OBJ.value), "needs --json, --output or --obj", [_MESH]
    )
    detection_flags.check_used(bool(_MESH.value and _OUTPUT.value), "needs --mesh and --output", [_MESH_STYLE])


def _run() -> int:
    _check_flags()
    if _VIDEO.value is not None:
        return detect_video(_VIDEO.value)
    paths = [path for pattern in _IMAGES.value for path in image_file.find(pattern)]
    if not paths:
        raise ValueError(f"--images={_IMAGES.value}: no images there")
    return detect_images(paths)


def main(argv):
    """Detects on what the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if bool(_IMAGES.value) == (_VIDEO.value is not None):
        raise app.UsageError("give either --images or --video")
    return stopping.run(_run)
