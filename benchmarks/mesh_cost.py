"""Measures what a dense head costs a detector that does not use it, and one that does.

python -m benchmarks.mesh_cost --runs=20

Sizes of exports and numbers of operations without meshes, and times of detection on a photo, runs in turn.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import tempfile
import time

import tensorflow as tf
from absl import app, flags

from keras_retinaface import config, program
from keras_retinaface.export import tflite
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from keras_retinaface.network import decoding
from keras_retinaface.network import model as model_lib

FLAGS = flags.FLAGS
flags.DEFINE_integer("runs", 20, "Detections of each kind.", lower_bound=1)
flags.DEFINE_string("json", None, "File for the numbers.")

_PHOTO = pathlib.Path(__file__).parents[1] / "examples" / "photos" / "tfjs_three_people.jpg"
_SIZE = (480, 640)


def main(argv):
    """Measures and prints one line of JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    detection = config.Detection()
    result = {}
    models = {
        "plain": model_lib.RetinaFace.from_preset("mobilenet025_public"),
        "dense": model_lib.RetinaFace.from_preset("mobilenet025_dense"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            serve = decoding.make_function(model, detection, 1).get_concrete_function()
            result[f"{name}_operations"] = len(serve.graph.as_graph_def().node)
            path = pathlib.Path(folder) / f"{name}.tflite"
            tflite.write(model, path, detection, image_size=_SIZE)
            result[f"{name}_tflite_bytes"] = path.stat().st_size
    image = image_file.read(_PHOTO)
    runs = {name: detector.Detector(model) for name, model in models.items()}
    runs["dense_with_meshes"] = detector.Detector(models["dense"], mesh=True)
    times = {name: [] for name in runs}
    for turn in range(FLAGS.runs + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            num_faces = len(run.detect(image))
            # The first turns build graphs.
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result.update({f"{name}_ms": round(1000 * value, 1) for name, value in medians.items()})
    result.update(
        ratio_without_meshes=round(medians["dense"] / medians["plain"], 3),
        ratio_with_meshes=round(medians["dense_with_meshes"] / medians["plain"], 3),
        faces=num_faces,
        image=list(image.shape[:2]),
        cores=os.cpu_count(),
        tensorflow=tf.__version__,
    )
    text = json.dumps(result)
    print(text)
    if FLAGS.json:
        pathlib.Path(FLAGS.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    program.run(main)
