r"""Trains RetinaFace with `model.fit`.

    python train_main.py --flagfile=configs/quickstart.flags
    python train_main.py --preset=mobilenet025 --init=mobilenet025 --workdir=runs/mine \
        --train_images=WIDER_train/images --train_annotations=label.txt

Every field of `keras_retinaface.Config` is a flag; one that is not given keeps the preset's value. The workdir gets
config.json, run.flags, checkpoints/, model.keras, logs/ (TensorBoard), history.csv and, with --val_ground_truth,
best.keras. Stopped in whatever way, the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib

from absl import app, flags, logging

from keras_retinaface import config as config_lib
from keras_retinaface import output, program
from keras_retinaface.cli import detection_flags, source_flags

_PRESET = flags.DEFINE_enum("preset", "mobilenet025", sorted(config_lib.PRESETS), "Network and settings to start from.")
_VAL_IMAGES = flags.DEFINE_string("val_images", None, "Folder of validation images.")
_VAL_ANNOTATIONS = flags.DEFINE_string("val_annotations", None, "Their annotations; the losses on them are reported.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything this run writes.")
_INIT = flags.DEFINE_string(
    "init", "", "Weights to start from: a preset, a workdir, a .keras, .weights.h5 or .npz file; empty: random."
)
_BACKBONE_WEIGHTS = flags.DEFINE_string(
    "backbone_weights", "", "ImageNet weights for the backbone: a local .npz or .pth state dict, or a Keras .h5."
)
_STEPS_PER_EPOCH = flags.DEFINE_integer("steps_per_epoch", None, "Steps an epoch; all training images by default.")
_DATA_SERVICE = flags.DEFINE_string(
    "data_service", None, "Address of a tf.data service, grpc://HOST:PORT, whose servers make the training batches."
)
_VAL_GROUND_TRUTH = flags.DEFINE_string(
    "val_ground_truth",
    None,
    "Folder of the official WIDER FACE ground truth: AP on --val_images; the best model is kept.",
)
_VAL_EVERY = flags.DEFINE_integer("val_every", 1, "Epochs between two measurements of AP.", lower_bound=1)
_SAVE_EVERY = flags.DEFINE_integer("save_every", 200, "Steps between two checkpoints.", lower_bound=1)
_RESUME = flags.DEFINE_bool(
    "resume", True, "Go on from the workdir's last checkpoint; if not, its files are moved into a folder beside."
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "one",
    ["one", "mirrored", "multi_worker", "tpu"],
    "Devices: one, all of this machine, those of several machines (TF_CONFIG says which), or a TPU.",
)
_MIXED_PRECISION = flags.DEFINE_bool("mixed_precision", False, "Compute in half precision, losses in float32.")
_WORKER_TIMEOUT = flags.DEFINE_float(
    "worker_timeout",
    600.0,
    "Seconds without a step after which a worker of several gives up, start and validation included, or a training "
    "whose batches others make.",
    lower_bound=1.0,
)
_FIELDS = {name: flags.DEFINE_string(name, None, text) for name, text in config_lib.describe_fields().items()}
for _section in dataclasses.fields(config_lib.Config):
    program.group(f"Config, {_section.name}", [field.name for field in dataclasses.fields(_section.default)])


def make_config() -> config_lib.Config:
    """Returns the preset's config with the fields that flags change.

    Raises:
        ValueError: if a value does not fit; names the flag.
    """
    changes = {name: config_lib.parse(name, flag.value) for name, flag in _FIELDS.items() if flag.value is not None}
    return config_lib.Config.preset(_PRESET.value).replace(**changes)


def make_data():
    """Returns the data that the flags name; nothing is opened yet."""
    from data_pipeline import feed

    images, annotations, landmarks = source_flags.train_sources()
    return feed.open(
        images,
        annotations,
        landmarks=landmarks,
        shares=source_flags.TRAIN_SHARES.value,
        val_images=_VAL_IMAGES.value,
        val_annotations=_VAL_ANNOTATIONS.value,
        on_bad_data=source_flags.ON_BAD_DATA.value,
        category=source_flags.CATEGORY.value,
        data_service=_DATA_SERVICE.value,
    )


def _run_flags() -> str:
    """Returns the flags that were given, as a flagfile."""
    # Those of this command's modules, not TensorFlow's or the logging's.
    ours = flags.FLAGS.flags_by_module_dict()
    given = [flag for module, found in ours.items() if module.startswith("keras_retinaface.") for flag in found]
    return "".join(f"{flag.serialize()}\n" for flag in given if flag.present)


def train(config: config_lib.Config, workdir: pathlib.Path) -> None:
    """Does the run that the flags describe."""
    # Here, so that --help and wrong flags answer at once.
    from keras_retinaface import training

    training.run(
        config,
        make_data(),
        workdir,
        init=_INIT.value,
        backbone_weights=_BACKBONE_WEIGHTS.value,
        steps_per_epoch=_STEPS_PER_EPOCH.value,
        strategy=_STRATEGY.value,
        mixed_precision=_MIXED_PRECISION.value,
        resume=_RESUME.value,
        save_every=_SAVE_EVERY.value,
        val_images=_VAL_IMAGES.value,
        val_ground_truth=_VAL_GROUND_TRUTH.value,
        val_every=_VAL_EVERY.value,
        worker_timeout=_WORKER_TIMEOUT.value,
        files={"run.flags": _run_flags()},
        verbose=2 if os.environ.get("CI") else "auto",
    )


def _check_flags(is_drawn: bool) -> None:
    """Makes sure that no flag that was given is without an effect."""
    check = detection_flags.check_used
    check(bool(_VAL_GROUND_TRUTH.value), "needs --val_ground_truth", [_VAL_EVERY])
    needs_others = _STRATEGY.value == "multi_worker" or bool(_DATA_SERVICE.value)
    check(needs_others, "needs --strategy=multi_worker or --data_service", [_WORKER_TIMEOUT])
    of_files = (source_flags.TRAIN_ANNOTATIONS, source_flags.TRAIN_LANDMARKS)
    check(not is_drawn, "must stand without --train_images=synthetic:N", of_files)


def _check_originals() -> None:
    """Makes sure that no file that is read lies where the run writes its own."""
    several = [
        name for flag in (source_flags.TRAIN_ANNOTATIONS, source_flags.TRAIN_LANDMARKS) for name in flag.value or []
    ]
    names = [name for name in (*several, _VAL_ANNOTATIONS.value, _BACKBONE_WEIGHTS.value) if name]
    read = [path for name in names for path in (name, *glob.glob(name))]
    init = pathlib.Path(_INIT.value)
    if _INIT.value:
        read.append(init / "model.keras" if init.is_dir() else init)
    originals = output.Originals([path for path in read if not os.path.isdir(path)])
    for name in ("config.json", "run.flags", "history.csv", "model.keras", "best.keras"):
        originals.check(os.path.join(_WORKDIR.value, name), _WORKDIR.name)
    originals.check_tree(os.path.join(_WORKDIR.value, "checkpoints"), _WORKDIR.name)


def main(argv):
    """Trains what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    is_drawn = (source_flags.TRAIN_IMAGES.value or [""])[-1].startswith("synthetic:")
    for flag in (_WORKDIR,) if is_drawn else (source_flags.TRAIN_ANNOTATIONS, _WORKDIR):
        if not flag.value:
            raise app.UsageError(f"--{flag.name} must be given")
    if _VAL_GROUND_TRUTH.value and not _VAL_IMAGES.value:
        raise app.UsageError("--val_ground_truth needs --val_images")
    try:
        _check_flags(is_drawn)
        _check_originals()
        train(make_config(), pathlib.Path(_WORKDIR.value))
    except (ValueError, OSError, FloatingPointError) as error:
        logging.error("%s", error)
        if _STRATEGY.value == "multi_worker":
            # The ordinary way out waits for the other workers to leave, and they may be gone.
            logging.flush()
            os._exit(1)
        return 1
    except KeyboardInterrupt:
        logging.error("stopped; the same command goes on from the last checkpoint")
        return 130
    return 0
