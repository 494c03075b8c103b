"""The flags of the images that `train` learns from, and how these are opened."""

from __future__ import annotations

from absl import flags, logging

from keras_retinaface import program

TRAIN_IMAGES = flags.DEFINE_multi_string(
    "train_images",
    None,
    "Folder that the names in --train_annotations start from, or synthetic:N for N drawn images; the last one counts, "
    "or with --train_shares the last ones.",
)
TRAIN_ANNOTATIONS = flags.DEFINE_multi_string(
    "train_annotations",
    None,
    "WIDER FACE text, RetinaFace label.txt, COCO JSON, or a glob of TFRecords; as often as --train_images.",
)
TRAIN_SHARES = flags.DEFINE_list(
    "train_shares",
    None,
    "Shares of the samples that come from each of several sources, as .7,.3; --train_images and --train_annotations "
    "are then given once for each, in this order, empty where there is none.",
)
TRAIN_LANDMARKS = flags.DEFINE_multi_string(
    "train_landmarks",
    None,
    "A second file whose landmarks are joined to the boxes of --train_annotations; with --train_shares once for each, "
    "empty for none, or not at all.",
)
CATEGORY = flags.DEFINE_string(
    "category", None, "Name or id of the faces' category in COCO JSON; by default the one that speaks of faces."
)
# What each source of training images has of its own.
SOURCE_FLAGS = (TRAIN_IMAGES, TRAIN_ANNOTATIONS, TRAIN_LANDMARKS)
ON_BAD_DATA = flags.DEFINE_enum(
    "on_bad_data", "fail", ["fail", "skip"], "Whether a broken row or image stops the run or is left out and counted."
)
program.group("What is learned from", (*SOURCE_FLAGS, TRAIN_SHARES, CATEGORY, ON_BAD_DATA))


def train_sources() -> list:
    """Returns the values of `SOURCE_FLAGS`, lists with `--train_shares`; of several settings the last ones win."""
    count, given = len(TRAIN_SHARES.value or [None]), []
    for flag in SOURCE_FLAGS:
        values = flag.value or []
        # TFRecords need no folder, drawn images no annotations; `feed.open` refuses too few.
        if len(values) > count:
            logging.warning("of %d --%s the last %d count", len(values), flag.name, count)
        last = [value or None for value in values[-count:]] or [None] * count
        given.append(last if TRAIN_SHARES.value else last[0])
    return given
