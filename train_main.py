"""Trains RetinaFace with `model.fit`.

    python train_main.py --flagfile=configs/quickstart.flags
    python train_main.py --preset=mobilenet025 --init=mobilenet025 --workdir=runs/mine \
        --train_images=WIDER_train/images --train_annotations=label.txt

Every field of `keras_retinaface.Config` is a flag; one that is not given keeps the preset's value. The workdir gets
config.json, run.flags, checkpoints/, model.keras, logs/ (TensorBoard) and history.csv.
"""

from __future__ import annotations

import os
import pathlib

from absl import app, flags, logging

from keras_retinaface import config as config_lib

_PRESET = flags.DEFINE_enum("preset", "mobilenet025", sorted(config_lib.PRESETS), "Network and settings to start from.")
_TRAIN_IMAGES = flags.DEFINE_string(
    "train_images", None, "Folder that the names in --train_annotations start from, or synthetic:N for N drawn images."
)
_TRAIN_ANNOTATIONS = flags.DEFINE_string(
    "train_annotations", None, "WIDER FACE text, RetinaFace label.txt, COCO JSON, or a glob of TFRecords."
)
_TRAIN_LANDMARKS = flags.DEFINE_string(
    "train_landmarks", None, "A second file whose landmarks are joined to the boxes of --train_annotations."
)
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
_ON_BAD_DATA = flags.DEFINE_enum(
    "on_bad_data", "fail", ["fail", "skip"], "Whether a broken row or image stops the run or is left out and counted."
)
_DATA_SERVICE = flags.DEFINE_string(
    "data_service", None, "Address of a tf.data service, grpc://HOST:PORT, whose servers make the training batches."
)
# Enough for means over every channel of every layer to settle.
_UNFOLDING_STEPS = 8
_FIELDS = {name: flags.DEFINE_string(name, None, text) for name, text in config_lib.describe_fields().items()}


def make_config() -> config_lib.Config:
    """Returns the preset's config with the fields that flags change.

    Raises:
        ValueError: if a value does not fit; names the flag.
    """
    changes = {name: config_lib.parse(name, flag.value) for name, flag in _FIELDS.items() if flag.value is not None}
    return config_lib.Config.preset(_PRESET.value).replace(**changes)


def _write_run(workdir: pathlib.Path, config: config_lib.Config) -> None:
    """Writes what is needed to do this run again."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(config.to_json(), encoding="utf-8")
    given = [flag for flag in flags.FLAGS.get_flags_for_module("__main__") if flag.present]
    lines = [flag.serialize() for flag in given if flag.name != "flagfile"]
    (workdir / "run.flags").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def train(config: config_lib.Config, workdir: pathlib.Path) -> None:
    """Builds data and model, and fits."""
    # Below, so that --help and wrong flags answer at once.
    import keras

    from data_pipeline import dataset
    from keras_retinaface import averaging, backbone_weights, optimizer, training, unfolding
    from keras_retinaface import model as model_lib

    keras.utils.set_random_seed(config.training.seed)
    train_data = dataset.make_dataset(
        config,
        _TRAIN_IMAGES.value,
        _TRAIN_ANNOTATIONS.value,
        landmarks=_TRAIN_LANDMARKS.value,
        on_bad_data=_ON_BAD_DATA.value,
        data_service=_DATA_SERVICE.value,
    )
    val_data = None
    if _VAL_ANNOTATIONS.value:
        val_data = dataset.make_dataset(
            config, _VAL_IMAGES.value, _VAL_ANNOTATIONS.value, training=False, on_bad_data=_ON_BAD_DATA.value
        )
    steps = _STEPS_PER_EPOCH.value or max(1, train_data.num_records // config.training.batch_size)
    model = model_lib.RetinaFace(config)
    training.initialise(model, _INIT.value)
    if _BACKBONE_WEIGHTS.value:
        backbone_weights.load(model, _BACKBONE_WEIGHTS.value)
    if config.training.use_unfolded_norms:
        logging.info("measuring batch norms on %d images", _UNFOLDING_STEPS * config.training.batch_size)
        unfolding.unfold_norms(model, (image for image, _ in train_data.take(_UNFOLDING_STEPS)))
    training.freeze(model, config.training)
    model.compile(optimizer=optimizer.make_optimizer(config.training, steps * config.training.epochs, model))
    averaging.attach(model, config.training.ema_decay)
    logging.info(
        "training on %d images: %d epochs of %d steps of %d images, %d weights",
        train_data.num_records,
        config.training.epochs,
        steps,
        config.training.batch_size,
        model.count_params(),
    )
    model.fit(
        train_data,
        epochs=config.training.epochs,
        steps_per_epoch=steps,
        validation_data=val_data,
        callbacks=training.make_callbacks(workdir),
        shuffle=False,  # the dataset does; Keras 3 warns of anything else
        verbose=2 if os.environ.get("CI") else "auto",
    )
    logging.info("wrote %s", workdir / "model.keras")


def main(argv):
    """Trains what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    is_drawn = (_TRAIN_IMAGES.value or "").startswith("synthetic:")
    for flag in (_WORKDIR,) if is_drawn else (_TRAIN_ANNOTATIONS, _WORKDIR):
        if not flag.value:
            raise app.UsageError(f"--{flag.name} must be given")
    try:
        config = make_config()
        workdir = pathlib.Path(_WORKDIR.value)
        _write_run(workdir, config)
        train(config, workdir)
    except (ValueError, OSError, FloatingPointError) as error:
        logging.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    app.run(main)
