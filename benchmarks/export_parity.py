"""Compares what a network gives in TFLite and in Keras before suppression, number by number, and times the export.

    python -m benchmarks.export_parity --model=runs/paper_resnet50 --image_size=320,320

`export_main.py` compares faces, and of a network that was hardly trained many have all but equal scores, whose order
and so whose suppression hangs on the last bit. Here nothing is sorted.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import process
from keras_retinaface import program
from keras_retinaface.export import saved_model, tflite
from keras_retinaface.inference import runtime
from keras_retinaface.inference import view as view_lib
from keras_retinaface.layers import deform_conv
from keras_retinaface.media import image_file

_MODEL = flags.DEFINE_string("model", None, "A preset, a workdir or a .keras file.", required=True)
_IMAGE_SIZE = flags.DEFINE_list("image_size", ["320", "320"], "HEIGHT,WIDTH, pixels.")
_PHOTO = flags.DEFINE_string("photo", "examples/photos/solvay1927.jpg", "The photo, fitted into that size.")


def convert(model, image_size: tuple[int, int]) -> bytes:
    """Converts the network alone, without decoding, for one image size, to TFLite built-in ops."""
    network = model.without_dense_head()

    @tf.function(input_signature=[tf.TensorSpec([1, *image_size, 3], tf.uint8, name="image")])
    def run(image):
        return network(tf.cast(image, tf.float32), training=False)

    with deform_conv.only_gathers(model), tempfile.TemporaryDirectory() as folder:
        options = saved_model.SAVE_OPTIONS
        tf.saved_model.save(tf.Module(), folder, signatures={"raw": tflite.freeze(run)}, options=options)
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["raw"]).convert()


def main(argv):
    """Converts, runs both on the photo, prints the largest and mean difference of every output."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    size = tuple(int(side) for side in _IMAGE_SIZE.value)
    image = view_lib.letterbox(image_file.read(_PHOTO.value), size)[0][None]
    model = runtime.load_keras(_MODEL.value)
    start = time.perf_counter()
    content = convert(model, size)
    seconds = time.perf_counter() - start
    found = tf.lite.Interpreter(model_content=content).get_signature_runner("raw")(image=image)
    wanted = model.without_dense_head()(image.astype(np.float32), training=False)
    print(f"{'output':18}{'shape':>16}{'largest value':>15}{'max difference':>16}{'mean':>12}")
    for name, values in wanted.items():
        difference = np.abs(found[name] - values.numpy())
        shape = "x".join(map(str, values.shape))
        print(f"{name:18}{shape:>16}{np.abs(values).max():>15.4f}{difference.max():>16.2e}{difference.mean():>12.2e}")
    print(f"{len(content) / 1e6:.1f} MB, converted in {seconds:.0f} s, peak {process.peak_memory():.0f} MB")


if __name__ == "__main__":
    program.run(main)
