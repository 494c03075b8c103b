"""RetinaFace as a Keras functional model that `model.fit` trains; what it is trained for is `objective`'s business."""

from __future__ import annotations

import collections.abc
import types

import keras

from keras_retinaface import config as config_lib
from keras_retinaface.layers import backbone, context, head, mesh_tower, preprocessing, pyramid
from keras_retinaface.network import accumulation, cost, objective, recompute, replica
from keras_retinaface.weights import arrays, shipped

# Its place among the arguments of `fit` after `x`.
_SHUFFLE = 8


@keras.saving.register_keras_serializable(package="keras_retinaface")
class RetinaFace(keras.Model):
    """A face detector: RGB 0..255 `[B, H, W, 3]` of any size in, raw outputs per anchor out.

    Outputs: a dict of float32 `scores` `[B, A, 2]` (logits of background and face), `box_deltas` `[B, A, 4]` and
    `landmark_deltas` `[B, A, 5, 2]`, with a dense head also `mesh_code` `[B, A, 144]`. `decoding.decode` turns them
    into faces.

    Args:
        config: sizes and choices; the default is MobileNet-0.25.

    Attributes:
        config: as given.
        objective: losses and metrics of `fit` and `evaluate`.

    Source: RetinaFace (Deng et al., 2019).
    """

    def __init__(self, config: config_lib.Config | None = None, **kwargs):
        config = config or config_lib.Config()
        image = keras.Input((None, None, 3), name="image")
        super().__init__(inputs=image, outputs=_build(image, config), name=kwargs.pop("name", "retinaface"), **kwargs)
        self.config = config
        self.objective = objective.Objective(config.loss, config.anchors, has_dense=config.network.dense)
        self._trackers = dict(self.objective.trackers)  # in an attribute of the model, where Keras looks for metrics
        self._recomputed = None

    @classmethod
    def from_preset(cls, name: str) -> RetinaFace:
        """Builds a model with shipped weights; needs no network.

        Args:
            name: a preset of `shipped.PRESETS`.

        Raises:
            ValueError: if no weights are shipped under this name, or the file is not what was shipped.
        """
        values = shipped.read(name)
        model = cls(config_lib.Config.preset(name))
        arrays.assign(model, values, name)
        return model

    def call(self, inputs, training=None, mask=None):
        """Computes the outputs; with `use_recompute`, training keeps only what stands between the backbone's blocks."""
        if not (training and self.config.training.use_recompute):
            return super().call(inputs, training=training, mask=mask)
        if self._recomputed is None:
            # Not earlier: until then each layer has one input and one output.
            name = self.config.network.backbone
            taps = backbone.taps(name)
            used = [taps[f"C{level}"] for level in self.config.anchors.levels if level <= 5]
            has_tower = self.config.network.dense and self.config.network.dense_channels > 0
            self._recomputed = recompute.Segments(self, backbone.block_outputs(name), used, uses_input=has_tower)
        return self._recomputed(inputs)

    def describe(self, image_size: tuple[int, int] = (640, 640)) -> str:
        """Returns a Markdown table of parameters and multiply-adds per part, for one image of `image_size`."""
        return cost.table(self, image_size)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the weighted sum of the losses; called by `fit` and `evaluate`.

        Args:
            x: images; the dense loss uses them, the others their size at most.
            y: targets as from `data_pipeline.dataset.make_dataset`.
            y_pred: outputs of the model.
            sample_weight: must be None; weights stand in the targets.
            training: whether the dense loss warms up.

        Returns:
            float32 scalar.
        """
        if sample_weight is not None:
            raise ValueError("`sample_weight` is not supported: weights stand in the targets")
        optimizer = getattr(self, "optimizer", None) if training else None
        return self.objective.loss(x, y, y_pred, optimizer=optimizer)

    def make_train_function(self, force=False):
        """Builds the step of `fit` as Keras does; a dense loss must be ready before the graph of the step is made."""
        self._prepare()
        # Keras 2's legacy optimizers have no `build`; Keras 3's loss scaling makes its variables anew at each.
        if hasattr(self.optimizer, "build") and not getattr(self.optimizer, "built", False):
            with self.distribute_strategy.scope():
                # A step that finds its slots made is traced once, and not a second time after it has made them.
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        """Builds the step of `evaluate`, as `make_train_function` that of `fit`."""
        self._prepare()
        return super().make_test_function(force)

    def _prepare(self):
        with self.distribute_strategy.scope():
            self.objective.prepare()

    def fit(self, x=None, *arguments, **options):
        """Trains as `keras.Model.fit` does; `x` may be any iterator over `(images, targets)` batches too."""
        if "validation_data" in options:
            options["validation_data"] = _as_generator(options["validation_data"])
        if isinstance(x, collections.abc.Iterator) and len(arguments) < _SHUFFLE:
            options.setdefault("shuffle", False)  # Keras 3 warns of its own default
        return super().fit(_as_generator(x), *arguments, **options)

    def train_step(self, data):
        """Takes a training step: part by part or one of several workers', otherwise Keras's own."""
        num_parts = self.config.training.accumulate_steps
        if num_parts == 1 and not replica.has_workers():
            return super().train_step(data)
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        targets = objective.shape_targets(targets)
        accumulation.train_step(self, images, targets, num_parts)
        return self.compute_metrics(images, targets, None)

    def without_dense_head(self) -> keras.Model:
        """Returns a model of the layers that find faces, shared with this one: what exports and detectors run."""
        if not self.config.network.dense:
            return self
        return keras.Model(self.input, {name: self.output[name] for name in head.SHAPES}, name=self.name)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Returns the trackers that `compute_loss` updated."""
        replica.equalise(variable for tracker in self._trackers.values() for variable in tracker.variables)
        return {name: tracker.result() for name, tracker in self._trackers.items()}

    def get_config(self):
        """Returns what `from_config` needs."""
        return {"config": self.config.to_model_dict(), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds a model without its weights; how it was trained is not part of it."""
        return cls(config_lib.Config.from_model_dict(config["config"]), name=config["name"])


def _as_generator(batches):
    """Wraps iterators of other kinds, such as `as_numpy_iterator`'s: of iterators Keras 3 knows generators only."""
    is_other = isinstance(batches, collections.abc.Iterator) and not isinstance(batches, types.GeneratorType)
    return (batch for batch in batches) if is_other else batches


def _build(image, config: config_lib.Config) -> dict:
    network, anchors = config.network, config.anchors
    levels = config.anchors.levels
    slope = network.negative_slope
    mean = network.image_mean or backbone.mean(network.backbone, network.backbone_layout)
    centred = preprocessing.SubtractMean(mean, name="subtract_mean")(image)
    features = backbone.build(network.backbone, centred, negative_slope=slope, layout=network.backbone_layout)
    deformable = None
    if network.use_deformable:
        deformable = {"tile": network.deform_tile, "sampler": network.deform_sampler}
    maps = pyramid.build(
        {name: x for name, x in features.items() if int(name[1:]) in levels},
        network.pyramid_channels,
        negative_slope=0.0 if network.use_plain_pyramid else slope,
        num_extra=sum(level > 5 for level in levels),
        deformable=deformable,
    )
    maps = {
        name: context.build(
            x,
            network.context_channels or network.pyramid_channels,
            negative_slope=0.0 if network.use_plain_pyramid else slope,
            name=f"context_{name}",
            deformable=deformable,
        )
        for name, x in maps.items()
    }
    dense_maps = None
    if network.dense:
        dense_maps = mesh_tower.build(centred, maps, network.dense_channels) if network.dense_channels else maps
    return head.build(
        maps, anchors.num_per_location, use_shared_heads=network.use_shared_heads, dense_levels=dense_maps
    )
