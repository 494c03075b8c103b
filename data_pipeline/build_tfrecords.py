"""Writes annotations and their images into TFRecord shards.

    python -m data_pipeline.build_tfrecords --images=WIDER_train/images --annotations=label.txt --output=records/train

gives records/train-00000-of-00008.tfrecord and so on, which `--train_annotations=records/train-*` reads. Image files go
in as they are. The records are shuffled once, so that a shard holds all kinds of scenes.
"""

from __future__ import annotations

import glob
import os
import random

import tensorflow as tf
import tqdm
from absl import app, flags, logging

from data_pipeline import example, shard, source
from data_pipeline import record as record_lib
from keras_retinaface import atomic, output, program, stopping

_IMAGES = flags.DEFINE_string("images", None, "Folder that the names in --annotations start from.")
_ANNOTATIONS = flags.DEFINE_string("annotations", None, "WIDER FACE text, RetinaFace label.txt or COCO JSON.")
_LANDMARKS = flags.DEFINE_string("landmarks", None, "A second file whose landmarks are joined to the boxes.")
_CATEGORY = flags.DEFINE_string("category", None, "Name or id of the faces' category in COCO JSON.")
_OUTPUT = flags.DEFINE_string("output", None, "Start of the shards' paths.")
_NUM_SHARDS = flags.DEFINE_integer("num_shards", 8, "Files to write; at least as many as hosts that train.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the order of the records.")
_ON_BAD_DATA = flags.DEFINE_enum(
    "on_bad_data", record_lib.FAIL, record_lib.ON_BAD_DATA, "Whether a fault stops the run or costs its image."
)


def build(images: str, records: list[record_lib.Record], output: str, num_shards: int, seed: int = 0) -> list[str]:
    """Writes records into shards of equal numbers, give or take one.

    Args:
        images: folder that the records' names start from.
        records: whose images exist.
        output: start of the shards' paths.
        num_shards: files to write.
        seed: seed of the order of the records.

    Returns:
        The paths written. A shard has its name only once it is whole.
    """
    records = list(records)
    random.Random(seed).shuffle(records)
    os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
    paths = [shard.name(output, index, num_shards) for index in range(num_shards)]
    with tqdm.tqdm(total=len(records), unit="image") as bar:
        for index, path in enumerate(paths):
            with atomic.file(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
                for record in records[index::num_shards]:
                    with open(os.path.join(images, record.image), "rb") as file:
                        writer.write(example.serialize(record, file.read()))
                    bar.update()
    return paths


def main(argv):
    """Builds the shards that the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    for flag in (_IMAGES, _ANNOTATIONS, _OUTPUT):
        if not flag.value:
            raise app.UsageError(f"--{flag.name} must be given")
    return stopping.run(_run)


def _check_outputs(records: list[record_lib.Record]) -> None:
    """Makes sure, before the first write, that shards replace nothing that is read and do not mix with others."""
    read = [_ANNOTATIONS.value, *([_LANDMARKS.value] if _LANDMARKS.value else [])]
    originals = output.Originals([*read, *(os.path.join(_IMAGES.value, record.image) for record in records)])
    written = [shard.name(_OUTPUT.value, index, _NUM_SHARDS.value) for index in range(_NUM_SHARDS.value)]
    for path in written:
        originals.check(path, _OUTPUT.name)
    pattern = f"{glob.escape(_OUTPUT.value)}-?????-of-?????.tfrecord"
    others = sorted(set(glob.glob(pattern)) - set(written))
    if others:
        logging.warning(
            "%d shards of another --num_shards lie there and would be read with the new ones, as %s",
            len(others),
            others[0],
        )


def _run() -> int:
    output.make_folder(os.path.dirname(_OUTPUT.value) or ".", _OUTPUT.name)
    try:
        bad_data = record_lib.BadData(_ON_BAD_DATA.value)
        records = source.read_records(_IMAGES.value, _ANNOTATIONS.value, _LANDMARKS.value, bad_data, _CATEGORY.value)
        _check_outputs(records)
        logging.info("writing %d images into %d shards", len(records), _NUM_SHARDS.value)
        paths = build(_IMAGES.value, records, _OUTPUT.value, _NUM_SHARDS.value, _SEED.value)
        bad_data.report(len(records))
    except tf.errors.OpError as error:  # so TensorFlow calls a full disk
        raise OSError(f"--output={_OUTPUT.value}: {(error.message or str(error)).splitlines()[0]}") from error
    num_bytes = sum(os.path.getsize(path) for path in paths)
    logging.info("wrote %d images, %.1f MB: %s ... %s", len(records), num_bytes / 1e6, paths[0], paths[-1])
    return 0


if __name__ == "__main__":
    program.run(main)
