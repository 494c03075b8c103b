"""The data of a run: training images, those whose losses are reported, and where both come from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from data_pipeline import dataset, source
from keras_retinaface import config as config_lib


class Feed:
    """What a training run reads; opens its sources when they are first asked for, after devices are set up.

    Args:
        open_training: opens the source of training images.
        open_validation: opens the source of images whose losses are reported, or None.
        settings: where the training images come from, by flag: a run goes on with the same only.
        data_service: address of a `tf.data` service that makes the training batches, or None.
    """

    def __init__(
        self,
        open_training: Callable[[], source.Source],
        open_validation: Callable[[], source.Source] | None = None,
        *,
        settings: Mapping | None = None,
        data_service: str | None = None,
    ):
        self._open_training, self._open_validation = open_training, open_validation
        self.settings, self._data_service = dict(settings or {}), data_service
        self.has_names = data_service is None

    @functools.cached_property
    def _training(self):
        return self._open_training()

    @functools.cached_property
    def _validation(self):
        return self._open_validation() if self._open_validation else None

    @property
    def num_records(self) -> int:
        """Training images."""
        return self._training.num_records

    @property
    def num_validation(self) -> int:
        """Images whose losses are reported."""
        return self._validation.num_records if self._validation else 0

    @property
    def paths(self) -> list[str]:
        """Files of validation images, or else of training images; TFRecords and drawn images have none."""
        found = (getattr(opened, "paths", None) for opened in (self._validation, self._training))
        return next((paths for paths in found if paths), [])

    def make_batches(self, config: config_lib.Config, **options) -> tf.data.Dataset:
        """Makes training batches without end; options as of `dataset.make_dataset`."""
        return dataset.make_dataset(config, None, self._training, data_service=self._data_service, **options)

    def make_validation(self, config: config_lib.Config, **options) -> tf.data.Dataset:
        """Makes the batches whose losses are reported, once through; options as of `dataset.make_dataset`."""
        return dataset.make_dataset(config, None, self._validation, training=False, **options)

    def report_left_out(self) -> None:
        """Tells which images could not be used."""
        for opened in (self._training, self._validation):
            if opened is not None:
                opened.bad_data.report_left_out()


def open(  # noqa: A001
    images: str | None,
    annotations: str | None,
    *,
    landmarks: str | None = None,
    val_images: str | None = None,
    val_annotations: str | None = None,
    on_bad_data: str = "fail",
    category: str | None = None,
) -> Feed:
    """Names the data of a run from one source of training images.

    Args:
        images: folder that the names in the annotations start from, or `synthetic:N` for N drawn images.
        annotations: a file that `source.open` reads; None for drawn images.
        landmarks: a second file whose landmarks are joined to the boxes of the first.
        val_images: folder of validation images.
        val_annotations: their annotations; None reports no losses on them.
        on_bad_data: `fail` or `skip`, see `source.open`.
        category: of COCO JSON, see `source.open`.
    """
    shared = {"on_bad_data": on_bad_data, "category": category}
    is_coco = {path: str(path).endswith(".json") for path in (annotations, landmarks, val_annotations) if path}
    if category and not any(is_coco.values()):
        raise ValueError(f"`category` is for COCO JSON. Received: category={category!r} for {list(is_coco)}")

    def options(*paths):
        """Returns what both kinds of images share; a category only where there is one to choose."""
        return shared if any(is_coco.get(path) for path in paths) else {**shared, "category": None}

    own = options(annotations, landmarks)
    training = functools.partial(source.open, images, annotations, landmarks=landmarks, **own)
    validation = None
    if val_annotations:
        validation = functools.partial(source.open, val_images, val_annotations, **options(val_annotations))
    named = {"train_images": images, "train_annotations": annotations, "train_landmarks": landmarks}
    return Feed(training, validation, settings={**named, **shared})
