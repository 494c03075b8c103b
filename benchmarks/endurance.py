"""Memory over many calls of changing sizes, memory of a 4K photo by tiles, and the frame rate of the video pipeline.

    python -m benchmarks.endurance [--detector=FILE_OR_PRESET] [--calls=1000]

Each figure comes from a process of its own. Memory is the peak of the resident set (VmHWM). The video is of the photo,
moved a little from frame to frame; its rate is that of `detect_main.py --video --output`, start included, beside a bare
detector's on the same frames.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
import tqdm
from absl import app, flags

from benchmarks import process
from keras_retinaface import program
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file, video

_MODEL = flags.DEFINE_string("detector", "mobilenet025", "Preset, workdir, SavedModel or .tflite.")
_CALLS = flags.DEFINE_integer("calls", 1000, "Detections of changing sizes.", 10)
_FRAMES = flags.DEFINE_integer("frames", 500, "Frames of the video.", 10)
_PART = flags.DEFINE_enum("part", None, ["calls", "tiles", "video"], "What a process of this program does for another.")
_EXAMPLE = "examples/photos/solvay1927.jpg"


def measure_calls() -> dict:
    """Returns the peak after a tenth of the calls and after all."""
    photo, found_by = image_file.read(_EXAMPLE), detector.Detector(_MODEL.value)
    rng, peaks = np.random.default_rng(0), []
    for call in tqdm.trange(_CALLS.value, unit="call"):
        height, width = rng.integers(64, (1000, 1400))
        found_by.detect(cv2.resize(photo, (int(width), int(height))))
        if call + 1 in (_CALLS.value // 10, _CALLS.value):
            peaks.append(process.peak_memory())
    return {"mb_after_tenth": peaks[0], "mb_after_all": peaks[1], "growth": peaks[1] / peaks[0] - 1}


def measure_tiles() -> dict:
    """Returns the peak of one photo of 4096 x 2160 cut into tiles."""
    photo = cv2.resize(image_file.read(_EXAMPLE), (4096, 2160))
    faces = detector.Detector(_MODEL.value, tile=640).detect(photo)
    return {"faces": len(faces), "mb_4k_by_tiles": process.peak_memory()}


def measure_video() -> dict:
    """Returns frames a second of the bare detector and of the whole pipeline."""
    photo = cv2.resize(image_file.read(_EXAMPLE), (1280, 720))
    frames = [np.roll(photo, 2 * index, axis=1) for index in range(20)]
    found_by = detector.Detector(_MODEL.value)
    found_by.detect(frames[0])
    start = time.perf_counter()
    for index in range(_FRAMES.value):
        found_by.detect(frames[index % len(frames)])
    bare = _FRAMES.value / (time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        clip = pathlib.Path(folder) / "clip.mp4"
        with video.Writer(clip, 25.0) as writer:
            for index in range(_FRAMES.value):
                writer.write(frames[index % len(frames)])
        command = [sys.executable, "detect_main.py", f"--model={_MODEL.value}", f"--video={clip}", f"--output={folder}"]
        done = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)
    whole = float(done.stderr.split()[-1])  # the table's last number
    return {"bare_frames_per_second": bare, "video_frames_per_second": whole, "ratio": whole / bare}


def main(argv):
    """Runs every part in a process of its own and prints one table."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    if _PART.value:
        parts = {"calls": measure_calls, "tiles": measure_tiles, "video": measure_video}
        print(json.dumps(parts[_PART.value]()))
        return
    given = [f"--{flag.name}={flag.value}" for flag in (_MODEL, _CALLS, _FRAMES)]
    print(f"{'figure':<26} {'value':>10}")
    for part in ("calls", "tiles", "video"):
        command = [sys.executable, "-m", "benchmarks.endurance", f"--part={part}", *given]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        for name, value in json.loads(done.stdout.splitlines()[-1]).items():
            print(f"{name:<26} {value:>10.3f}")


if __name__ == "__main__":
    program.run(main)
