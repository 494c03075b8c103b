"""The data of a run: training images, those whose losses are reported, and where both come from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from data_pipeline import dataset, mixture, source
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
        self.has_names, self.is_remote = not data_service, bool(data_service)

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
    images: str | Sequence[str | None] | None,
    annotations: str | Sequence[str | None] | None,
    *,
    landmarks: str | Sequence[str | None] | None = None,
    shares: Sequence[float | str] | None = None,
    val_images: str | None = None,
    val_annotations: str | None = None,
    on_bad_data: str = "fail",
    category: str | None = None,
    data_service: str | None = None,
) -> Feed:
    """Names the data of a run; nothing is opened yet.

    Args:
        images: folder that the names in the annotations start from, or `synthetic:N` for N drawn images; with `shares`
            one for each source, as `annotations` and `landmarks` are.
        annotations: a file that `source.open` reads; None for drawn images.
        landmarks: a second file whose landmarks are joined to the boxes of the first.
        shares: parts of the samples that come from each of several sources, see `mixture.Mixture`; None is one source.
        val_images: folder of validation images.
        val_annotations: their annotations; None reports no losses on them.
        on_bad_data: `fail` or `skip`, see `source.open`.
        category: name or id of the faces' category in those of the files that are COCO JSON.
        data_service: as for `Feed`.

    Raises:
        ValueError: if there is a category and nothing to choose one in, or not one of each for each of `shares`.
    """
    named = {"train_images": images, "train_annotations": annotations, "train_landmarks": landmarks}
    for name, values in named.items() if shares else ():
        if isinstance(values, str) or (values and len(values) != len(shares)):
            raise ValueError(f"`{name}` must be given once for each of {len(shares)} shares. Received: {values!r}")
    rows = list(zip(*(values or [None] * len(shares) for values in named.values()))) if shares else [(*named.values(),)]
    files = [path for _, *paths in rows for path in (*paths, val_annotations) if path]
    if category and not any(map(source.is_coco, files)):
        raise ValueError(f"`category` is for COCO JSON. Received: category={category!r} for {files}")

    def opening(images, annotations, landmarks=None):
        """Returns what opens a source; a category only where there is one to choose."""
        has_category = any(path and source.is_coco(path) for path in (annotations, landmarks))
        options = {"on_bad_data": on_bad_data, "category": category if has_category else None}
        return functools.partial(source.open, images, annotations, landmarks=landmarks, **options)

    training = [opening(*row) for row in rows]
    return Feed(
        functools.partial(_open_mixture, training, shares) if shares else training[0],
        opening(val_images, val_annotations) if val_annotations else None,
        settings={
            **({"train_shares": list(shares)} if shares else {}),
            **named,
            "category": category,
            "on_bad_data": on_bad_data,
        },
        data_service=data_service,
    )


def _open_mixture(openings: Sequence[Callable[[], source.Source]], shares: Sequence[float | str]) -> mixture.Mixture:
    try:
        numbers = [float(share) for share in shares]
    except ValueError:
        raise ValueError(f"`train_shares` must be numbers. Received: {','.join(map(str, shares))!r}") from None
    return mixture.Mixture([opening() for opening in openings], numbers)
