"""Trains RetinaFace with `model.fit`.

    python train_main.py --flagfile=configs/quickstart.flags
    python train_main.py --preset=mobilenet025 --init=mobilenet025 --workdir=runs/mine \
        --train_images=WIDER_train/images --train_annotations=label.txt

Every field of `keras_retinaface.Config` is a flag; one that is not given keeps the preset's value. The workdir gets
config.json, run.flags, checkpoints/, model.keras, logs/ (TensorBoard), history.csv and, with --val_ground_truth,
best.keras. Stopped in whatever way, the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
import pathlib

from absl import app, flags, logging

from keras_retinaface import atomic, output, program
from keras_retinaface import config as config_lib
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
    "Seconds without a step, start and validation included, after which a worker of several gives up.",
    lower_bound=1.0,
)
# Enough for means over every channel of every layer to settle.
_UNFOLDING_STEPS = 8
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


def make_settings(config: config_lib.Config, steps_per_epoch: int) -> dict:
    """Returns what the course of a training depends on, by flag."""
    sections = {name: fields for name, fields in config.to_dict().items() if name != "detection"}
    course = (source_flags.CATEGORY, _INIT, _BACKBONE_WEIGHTS, source_flags.ON_BAD_DATA)
    sources = {
        flag.name: list(values) for flag, values in zip(source_flags.SOURCE_FLAGS, zip(*source_flags.train_sources()))
    }
    # One source stands there as in runs that began before there could be several.
    shared = {"train_shares": source_flags.TRAIN_SHARES.value} if source_flags.TRAIN_SHARES.value else {}
    return {
        **shared,
        **{name: values if shared else values[0] for name, values in sources.items()},
        **{name: value for fields in sections.values() for name, value in fields.items()},
        **{flag.name: flag.value for flag in (*course, _MIXED_PRECISION)},
        "steps_per_epoch": steps_per_epoch,
    }


def _write_run(workdir: pathlib.Path, config: config_lib.Config) -> None:
    """Writes what is needed to do this run again."""
    _write(workdir / "config.json", config.to_json())
    # Those of this command's modules, not TensorFlow's or the logging's.
    ours = flags.FLAGS.flags_by_module_dict()
    given = [flag for module, found in ours.items() if module.startswith("keras_retinaface.") for flag in found]
    lines = [flag.serialize() for flag in given if flag.present]
    _write(workdir / "run.flags", "".join(f"{line}\n" for line in lines))


def _write(path: pathlib.Path, text: str) -> None:
    with atomic.file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _make_start(config: config_lib.Config, make_batches) -> object:
    """Builds a model on one device with the weights that training starts from."""
    from keras_retinaface.network import model as model_lib
    from keras_retinaface.training import run
    from keras_retinaface.weights import imagenet, norms

    model = model_lib.RetinaFace(config)
    run.initialise(model, _INIT.value)
    if _BACKBONE_WEIGHTS.value:
        imagenet.load(model, _BACKBONE_WEIGHTS.value)
    if config.training.use_unfolded_norms:
        logging.info("measuring batch norms on %d images", _UNFOLDING_STEPS * config.training.batch_size)
        norms.unfold_norms(model, (image for image, _ in make_batches().take(_UNFOLDING_STEPS)))
    return model


def _make_validation(config: config_lib.Config, strategy, opened):
    """Returns the batches whose losses are reported, or None."""
    from data_pipeline import dataset
    from keras_retinaface.training import strategy as strategy_lib

    if opened is None:
        return None
    make_batches = functools.partial(dataset.make_dataset, config, None, opened, training=False)
    return strategy_lib.distribute_whole(strategy, make_batches, config.training.batch_size, opened.num_records)


def _make_model(config: config_lib.Config, strategy, start, num_steps: int, resumed):
    """Builds the model that trains, compiled, where `start` or the checkpoint `resumed` stands."""
    from keras_retinaface.network import model as model_lib
    from keras_retinaface.training import checkpoint, optimizer, run, weight_average
    from keras_retinaface.training import strategy as strategy_lib
    from keras_retinaface.weights import arrays

    strategy_lib.set_precision(strategy, is_mixed=_MIXED_PRECISION.value)
    with strategy.scope():
        model = model_lib.RetinaFace(config)
        arrays.assign(model, arrays.read(start), "start")
        run.freeze(model, config.training)
        model.compile(optimizer=optimizer.make_optimizer(config.training, num_steps, model))
        # Every replica's metrics are those of all; Keras 2 would add them up over workers.
        model.distribute_reduction_method = "first"
        model.optimizer.build(model.trainable_variables)
        weight_average.attach(model, config.training.ema_decay)
        if resumed is not None:
            checkpoint.restore(model, resumed)
            logging.info("going on from %s", resumed.path)
    strategy_lib.set_precision(strategy, is_mixed=False)
    return model


def _make_observers(
    config: config_lib.Config, workdir, make_batches, position, start, settings, resumed, is_chief, pictures
):
    """Returns the callbacks that the flags describe."""
    from keras_retinaface.training import run, validation

    measure_ap = None
    if _VAL_GROUND_TRUTH.value:
        measure_ap = functools.partial(
            validation.MeasureAp,
            images=_VAL_IMAGES.value,
            ground_truth=_VAL_GROUND_TRUTH.value,
            every=_VAL_EVERY.value,
            epochs=config.training.epochs,
        )
    return run.make_callbacks(
        workdir,
        position,
        start,
        settings=settings,
        save_every=_SAVE_EVERY.value,
        resumed=resumed,
        names_of=None if _DATA_SERVICE.value else functools.partial(_names_of, make_batches),
        measure_ap=measure_ap,
        pictures=validation.read_pictures(pictures) if is_chief else [],
        is_chief=is_chief,
    )


def _find_pictures(*opened) -> list[str]:
    """Returns the paths of images to show: those that annotations name, because a folder may hold anything."""
    from keras_retinaface.media import image_file

    for images in opened:
        # Of TFRecords and drawn images there are no files to show.
        if images is not None and getattr(images, "paths", None):
            return images.paths
    folder = _VAL_IMAGES.value or ""
    return image_file.find(folder) if os.path.isdir(folder) else []


def _names_of(make_batches, step: int) -> list[str]:
    """Returns the names of the images of a step; where some are broken themselves, of those only."""
    import numpy as np

    _, targets = next(iter(make_batches(start_step=step, with_names=True)))
    names = [name.decode() for name in targets.pop("image_name").numpy()]
    is_whole = np.all([[np.isfinite(row).all() for row in value.numpy()] for value in targets.values()], axis=0)
    return [name for name, whole in zip(names, is_whole) if not whole] or names


def train(config: config_lib.Config, workdir: pathlib.Path) -> None:
    """Builds data and model, and fits; what TensorFlow raises becomes an error of one line."""
    import tensorflow as tf

    from keras_retinaface.training import strategy

    try:
        _train(config, workdir)
    except tf.errors.OpError as error:
        raise strategy.explain(error, _STRATEGY.value) from error


def _train(config: config_lib.Config, workdir: pathlib.Path) -> None:
    # Below, so that --help and wrong flags answer at once.
    import keras

    from data_pipeline import dataset, source
    from keras_retinaface.network import model as model_lib
    from keras_retinaface.training import callbacks, checkpoint, run, watchdog
    from keras_retinaface.training import strategy as strategy_lib

    guards = [watchdog.Watchdog(_WORKER_TIMEOUT.value)] if _STRATEGY.value == "multi_worker" else []
    strategy = strategy_lib.make(_STRATEGY.value)
    is_chief = strategy_lib.is_chief(strategy)
    resumed = run.prepare_workdir(workdir, resume=_RESUME.value, is_chief=is_chief)
    keras.utils.set_random_seed(config.training.seed)
    opened = source_flags.open_train()
    val_opened = None
    if _VAL_ANNOTATIONS.value:
        category = source_flags.CATEGORY.value if _VAL_ANNOTATIONS.value.endswith(".json") else None
        val_opened = source.open(
            _VAL_IMAGES.value, _VAL_ANNOTATIONS.value, on_bad_data=source_flags.ON_BAD_DATA.value, category=category
        )
    make_batches = functools.partial(dataset.make_dataset, config, None, opened, data_service=_DATA_SERVICE.value)
    batch_size, epochs = config.training.batch_size, config.training.epochs
    steps = _STEPS_PER_EPOCH.value or max(1, opened.num_records // batch_size)
    settings = make_settings(config, steps)
    if resumed is not None:
        checkpoint.check_settings(resumed, settings)
    position = callbacks.Position(steps, resumed.step if resumed else 0)
    strategy_lib.check_agreement(strategy, position.step)
    if position.step >= epochs * steps:
        logging.info("%s: all %d epochs are done", workdir, epochs)
        return
    if is_chief:
        _write_run(workdir, config)
    val_data = _make_validation(config, strategy, val_opened)
    start = model_lib.RetinaFace(config) if resumed else _make_start(config, make_batches)
    model = _make_model(config, strategy, start, steps * epochs, resumed)
    pictures = _find_pictures(val_opened, opened)
    observers = _make_observers(config, workdir, make_batches, position, start, settings, resumed, is_chief, pictures)
    logging.info(
        "training on %d images: %d epochs of %d steps of %d images on %d devices, %d weights",
        opened.num_records,
        epochs,
        steps,
        batch_size,
        strategy.num_replicas_in_sync,
        model.count_params(),
    )
    run.fit(
        model,
        lambda step: strategy_lib.distribute(strategy, make_batches, batch_size, step),
        position,
        epochs=epochs,
        observers=guards + observers,
        validation_data=val_data,
        verbose=(2 if os.environ.get("CI") else "auto") if is_chief else 0,
    )
    for images in (opened, val_opened):
        if images is not None:
            images.bad_data.report_left_out()
    logging.info("wrote %s", workdir / "model.keras")


def _check_flags(is_drawn: bool) -> None:
    """Makes sure that no flag that was given is without an effect."""
    check = detection_flags.check_used
    check(bool(_VAL_GROUND_TRUTH.value), "needs --val_ground_truth", [_VAL_EVERY])
    check(_STRATEGY.value == "multi_worker", "needs --strategy=multi_worker", [_WORKER_TIMEOUT])
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
