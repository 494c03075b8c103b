"""Finds faces in images, folders, videos or a camera.

    python detect_main.py --images=examples/photos --output=/tmp/faces
    python detect_main.py --images='photos/**/*.jpg' --json=faces.jsonl --crops=/tmp/crops
    python detect_main.py --model=retinaface.tflite --images=group.jpg --json=-
    python detect_main.py --images=/archive --json=faces.jsonl --workers=8 --shard=3/16
    python detect_main.py --images=/archive --json=faces --output_format=parquet
    python detect_main.py --video=0 --output=/tmp/faces
    python detect_main.py --model=mobilenet025_dense --mesh --images=examples/photos --output=/tmp/faces --obj=/tmp/obj

Prints a table at the end: `first ms` is the first image, for which the network's graph is built, `ms/image` the others.
An image that cannot be read or drawn is reported, costs nothing else, and makes the exit status 1. Lines of --json are
in the file as soon as they are found, so that Ctrl-C loses none. Started again with the same arguments, a run that was
stopped goes on behind them; FILE.run beside the lines says so, and goes when all are there. A --json of a run that was
through is written anew. Films are H.264 with the sound of the original where PyAV is installed (pip install "av>=14"),
and MPEG-4, which browsers do not play, where not.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import pathlib
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tqdm
from absl import app, flags, logging

from keras_retinaface import output, stopping
from keras_retinaface.bulk import job, pictures, progress, rows, shard
from keras_retinaface.cli import detection_flags, worker_flags
from keras_retinaface.cli import tally as tally_lib
from keras_retinaface.formats import json_lines
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file, video

_MODEL = detection_flags.define_model("mobilenet025")
_IMAGES = flags.DEFINE_multi_string("images", [], "An image, a glob or a folder; may be given more than once.")
_VIDEO = flags.DEFINE_string("video", None, "A video file, or the number of a camera.")
_JSON = flags.DEFINE_string(
    "json", None, "File for one JSON line an image; `-` is standard output. With --output_format=parquet, a folder."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for images (or the video) with faces drawn.")
_CROPS = flags.DEFINE_string("crops", None, "Folder for aligned 112 x 112 crops, best face first.")
_MESH = flags.DEFINE_bool(
    "mesh", False, "Find a mesh for every face: drawn in --output, pose in --json. Needs a model with a dense head."
)
_MESH_STYLE = flags.DEFINE_enum("mesh_style", "lines", ["lines", "colours"], "How meshes are drawn.")
_OBJ = flags.DEFINE_string("obj", None, "Folder for meshes as coloured OBJ files, best face first; needs --mesh.")
_MAX_PIXELS = detection_flags.define_max_pixels()
_OUTPUT_FORMAT = flags.DEFINE_enum(
    "output_format",
    "jsonl",
    ["jsonl", "parquet"],
    "What --json is: a file of JSON lines, or a folder of Parquet, one row an image.",
)
worker_flags.define()
make_detector, settings = detection_flags.define()


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


def _pictures() -> pictures.Pictures:
    """Returns what the flags want drawn."""
    has_lines = _MESH_STYLE.value == "lines"
    return pictures.Pictures(_OUTPUT.value, _CROPS.value, _OBJ.value, has_meshes=_MESH.value, has_lines=has_lines)


def _find(found_by, name: str, image: np.ndarray, write_json: Callable, tally: tally_lib.Tally) -> list:
    """Detects on one frame and writes its line; returns its faces."""
    try:
        start = time.perf_counter()
        faces = found_by.detect(image)
    except Exception as error:  # of any kind: what a frame does to a network costs its own line alone
        tally.broken += 1
        said = f"{name}: {pictures.reason(error)}"
        logging.error("%s", said)
        write_json({"image": name, "error": said})
        return []
    tally.took(time.perf_counter() - start)
    tally.images += 1
    tally.faces += len(faces)
    height, width = image.shape[:2]
    write_json({"image": name, "width": width, "height": height, "faces": [face.to_dict() for face in faces]})
    return faces


def detect_images(paths: list[str]) -> int:
    """Detects on every image that is this machine's and not yet done; returns the exit status."""
    items = _items(paths)
    _check_outputs(paths, [item.stem for item in items])
    items = [item for item in items if shard.takes(worker_flags.shard(), item.name)]
    tally, status, num_earlier, start = tally_lib.Tally(), None, 0, time.perf_counter()
    with contextlib.closing(tqdm.tqdm(total=len(items), unit="image", disable=None)) as bar:
        try:
            with _open_rows(items) as (write, done):
                items = [item for item in items if not done.pop(_name(item))]
                num_earlier = bar.total - len(items)
                tally.images, tally.broken, tally.faces = num_earlier - done.broken, done.broken, done.faces
                if num_earlier:
                    logging.info("%s: going on behind %d of %d images", _JSON.value, num_earlier, bar.total)
                    bar.update(num_earlier)
                for outcome in _outcomes(items):
                    write(outcome.line)
                    _count(outcome, tally)
                    bar.update()
        except KeyboardInterrupt as error:
            status = stopping.status_of(error)
            logging.error("stopped after %d of %d images", tally.images + tally.broken, bar.total)
    if tally.unwritten:
        logging.error("%d pictures could not be written", tally.unwritten)
    num_now = tally.images + tally.broken - num_earlier
    print(
        f"{'images':>8} {'broken':>8} {'faces':>8} {'first ms':>9} {'ms/image':>9} {'images/s':>9}\n"
        f"{tally.images:>8} {tally.broken:>8} {tally.faces:>8} {tally.times()} "
        f"{num_now / (time.perf_counter() - start):>9.1f}",
        file=sys.stderr,
    )
    return tally.status() if status is None else status


def _name(item: job.Item) -> str:
    return rows.text(item.name) if _OUTPUT_FORMAT.value == "parquet" else item.name


def _items(paths: list[str]) -> list[job.Item]:
    """Returns what is to be done; a path that is given twice is told, and has one row in Parquet but a line each."""
    twice = [path for path, count in collections.Counter(paths).items() if count > 1]
    if twice:
        logging.warning("%d paths are given more than once, as %s", len(twice), twice[0])
    items = [job.Item(path, stem) for path, stem in zip(paths, unique_stems(paths))]
    if not (twice and _is_parquet()):
        return items
    once: dict[str, job.Item] = {}
    for item in items:
        once.setdefault(item.name, item)
    return list(once.values())


def _is_parquet() -> bool:
    return _OUTPUT_FORMAT.value == "parquet"


def _open_rows(items: list[job.Item]):
    """Returns the context that gives what writes rows, and what earlier starts of this run wrote."""
    names = ("images", "model", "shard", "max_pixels", "mesh", "mesh_style", "output", "crops", "obj", "output_format")
    arguments = {f"--{name}": flags.FLAGS[name].value for name in names} | {f"--{k}": v for k, v in settings().items()}
    arguments["the content of --model"] = progress.model_sum(_MODEL.value)
    if _OUTPUT.value or _CROPS.value or _OBJ.value:  # files are called by what else is in the list
        arguments["the list of images"] = f"{zlib.crc32(repr([item.stem for item in items]).encode()):08x}"
    if _is_parquet():
        return rows.open_parts(_JSON.value, arguments, flag=_JSON.name, is_restart=flags.FLAGS.restart)
    return progress.open_lines(_JSON.value, arguments, is_restart=flags.FLAGS.restart)


def _outcomes(items: list[job.Item]) -> Iterator[job.Outcome]:
    """Yields what comes of items, in order; a few are not worth another process."""
    model, arguments = _MODEL.value, detection_flags.arguments(mesh=_MESH.value)
    has_pictures = _OUTPUT.value or _CROPS.value or _OBJ.value
    made = job.Job(
        functools.partial(detector.Detector, model, **arguments),
        job.ReadFile(_MAX_PIXELS.value),
        _pictures() if has_pictures else None,
    )
    return worker_flags.outcomes(made, items, model, arguments["num_threads"])


def _count(outcome: job.Outcome, tally: tally_lib.Tally) -> None:
    """Counts an outcome in, and says what went wrong."""
    if "error" in outcome.line:
        tally.broken += 1
        logging.error("%s", outcome.line["error"])
        return
    tally.images += 1
    tally.faces += len(outcome.line["faces"])
    tally.took(outcome.seconds)
    for said in outcome.unwritten:
        tally.unwritten += 1
        logging.error("%s", said)


def _draw_or_not(image: np.ndarray, faces: list, name: str, tally: tally_lib.Tally) -> np.ndarray:
    """Draws faces on a frame; one that cannot be drawn on keeps its place in the film."""
    try:
        return _pictures().draw(image, faces)
    except Exception as error:
        tally.unwritten += 1
        logging.error("%s: cannot be drawn: %s", name, pictures.reason(error))
        return image


def detect_video(source: str) -> int:
    """Detects on every frame; returns the exit status. What is written when it is stopped stays, a film so far too."""
    is_camera = video.is_camera(source)
    name = f"camera{source}" if is_camera else pathlib.Path(source).stem
    film = pathlib.Path(_OUTPUT.value) / f"{name}.mp4" if _OUTPUT.value else None
    _check_outputs([source], [], film=film)
    reader = video.Reader(source)
    found_by = make_detector(_MODEL.value, mesh=_MESH.value)
    tally, status = tally_lib.Tally(), None
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
    sound = None if video.is_camera(source) else source
    with contextlib.ExitStack() as stack:
        begin = functools.partial(progress.forget, _JSON.value)
        write_json = stack.enter_context(json_lines.open(_JSON.value, on_begin=begin))
        writer = stack.enter_context(video.Writer(film, reader.frame_rate, sound)) if film else None

        def finish(image, faces, index):
            frame = f"{source}#{index}"
            if writer is not None:
                writer.write(_draw_or_not(image, faces, frame, tally))
            for said in _pictures().write(frame, f"{name}_{index}", image, faces, has_drawn=False):
                tally.unwritten += 1
                logging.error("%s", said)

        # Reading, detecting, and drawing and writing take turns on no frame: each is a thread.
        submit = stack.enter_context(video.behind(finish))
        frames = tqdm.tqdm(video.ahead(reader), total=reader.num_frames, unit="frame", disable=None)
        for index, image in enumerate(frames):
            submit(image, _find(found_by, f"{source}#{index}", image, write_json, tally), index)


def _check_outputs(sources: list[str], stems: list[str], film: pathlib.Path | None = None) -> None:
    """Makes sure, before anything is written, that outputs can be and that they replace nothing that is read."""
    originals = output.Originals([*sources, _MODEL.value])
    if _JSON.value and _is_parquet():
        output.make_folder(_JSON.value, _JSON.name)
    elif _JSON.value and _JSON.value != "-":
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
    detection_flags.check_used(bool(_JSON.value), "needs --json", ["restart"])
    detection_flags.check_used(_VIDEO.value is None, "needs --images", worker_flags.NAMES)
    if _is_parquet():
        _check_parquet()
    detection_flags.check_used(bool(_MESH.value and _OUTPUT.value), "needs --mesh and --output", [_MESH_STYLE])


def _check_parquet() -> None:
    if _VIDEO.value is not None or _MESH.value:
        raise ValueError("--output_format=parquet takes --images without --mesh: frames and poses stand in JSON lines")
    if not _JSON.value or _JSON.value == "-":
        raise ValueError(f"--output_format=parquet needs --json, a folder for its files. Received: {_JSON.value}")
    rows.require()


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
