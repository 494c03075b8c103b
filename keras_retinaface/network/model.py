"""RetinaFace as a Keras functional model whose losses live in `compute_loss`, so that `model.fit` trains it."""

from __future__ import annotations

import collections.abc
import types

import keras
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor
from keras_retinaface.layers import backbone, context, head, mesh_tower, preprocessing, pyramid
from keras_retinaface.network import accumulation, assignment, cost, losses, recompute, replica
from keras_retinaface.weights import arrays, shipped

# Names of the trackers that `fit` and `evaluate` report.
METRICS = ("loss", "class_loss", "box_loss", "landmark_loss", "recall")
# With a dense head; the error is the mean absolute difference of colours over covered pixels, 0..1.
DENSE_METRICS = ("dense_loss", "dense_error")
# Its place among the arguments of `fit` after `x`.
_SHUFFLE = 8
_TARGET_SHAPES = {
    "state": [None, None],
    "box_deltas": [None, None, 4],
    "landmark_deltas": [None, None, 5, 2],
    "landmark_weight": [None, None, 5],
    "matched_box": [None, None, 4],
}


@keras.saving.register_keras_serializable(package="keras_retinaface")
class RetinaFace(keras.Model):
    """A face detector: RGB 0..255 `[B, H, W, 3]` of any size in, raw outputs per anchor out.

    Outputs: a dict of float32 `scores` `[B, A, 2]` (logits of background and face), `box_deltas` `[B, A, 4]` and
    `landmark_deltas` `[B, A, 5, 2]`, with a dense head also `mesh_code` `[B, A, 144]`. `decoding.decode` turns them
    into faces.

    Args:
        config: sizes and choices; the default is MobileNet-0.25.

    Source: RetinaFace (Deng et al., 2019).
    """

    def __init__(self, config: config_lib.Config | None = None, **kwargs):
        config = config or config_lib.Config()
        image = keras.Input((None, None, 3), name="image")
        super().__init__(inputs=image, outputs=_build(image, config), name=kwargs.pop("name", "retinaface"), **kwargs)
        self.config = config
        self._trackers = {
            name: keras.metrics.Mean(name=name) for name in METRICS + (DENSE_METRICS if config.network.dense else ())
        }
        self._photometric = _photometric(config) if config.network.dense else None
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
            used = [taps[f"C{level}"] for level in _levels(self.config) if level <= 5]
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
        targets = self.assigned(x, _shape_targets(y), y_pred)
        return self.counted_loss(x, targets, y_pred, self.loss_counts(targets), training=training)

    def fit(self, x=None, *arguments, **options):
        """Trains as `keras.Model.fit` does; `x` may be any iterator over `(images, targets)` batches too."""
        if "validation_data" in options:
            options["validation_data"] = _as_generator(options["validation_data"])
        if isinstance(x, collections.abc.Iterator) and len(arguments) < _SHUFFLE:
            options.setdefault("shuffle", False)  # Keras 3 warns of its own default
        return super().fit(_as_generator(x), *arguments, **options)

    def train_step(self, data):
        """Takes a training step; with `accumulate_steps` part by part, otherwise Keras's own."""
        num_parts = self.config.training.accumulate_steps
        if num_parts == 1:
            return super().train_step(data)
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        targets = _shape_targets(targets)
        accumulation.train_step(self, images, targets, num_parts)
        return self.compute_metrics(images, targets, None)

    def assigned(self, images, targets: dict, outputs: dict) -> dict:
        """Returns the targets of anchors: those given, or with dynamic assignment what the outputs make of faces."""
        if "state" in targets:
            return targets
        return assignment.encode(targets, outputs, tf.shape(images)[1:3], self.config.anchors)

    def loss_counts(self, targets: dict, num_parts: int = 1) -> dict | None:
        """Counts what the terms of the loss are means over, in the batches of all replicas.

        The sum of the replicas' gradients, which is what Keras takes, is then that of one batch on one device.

        Args:
            targets: as of `compute_loss`.
            num_parts: that the batch is trained in.

        Returns:
            float32 scalars by the name of the term; None where they hang on outputs.
        """
        return replica.total(self._own_counts(targets, num_parts)) if "state" in targets else None

    def _own_counts(self, targets, num_parts: int) -> dict:
        settings, state = self.config.loss, targets["state"]
        positive = losses.positive_count(state)
        if settings.class_loss == "ohem" and settings.class_count == "sampled":
            pools = num_parts if settings.ohem_pool == "batch" else tf.shape(state)[0]
            sampled = losses.score_count(tf.reshape(state, [pools, -1]), settings.negative_ratio)
        else:
            sampled = positive
        return {
            "class_loss": sampled,
            "box_loss": positive,
            "landmark_loss": losses.landmark_count(targets["landmark_weight"]),
        }

    def counted_loss(self, images, targets, outputs, counts: dict | None, *, training: bool = True, num_parts: int = 1):
        """Computes a part's share of the loss and updates the metrics.

        Args:
            images: of the part.
            targets: of the part, as of `compute_loss`.
            outputs: of the model for it.
            counts: of `loss_counts` for the whole batch; None lets every part and replica count as much.
            training: whether the dense loss warms up.
            num_parts: of the batch.

        Returns:
            float32 scalar; the shares of all parts and replicas add up to the loss.
        """
        settings = self.config.loss
        if counts is None:  # replicas cannot talk inside the loop over parts
            targets = self.assigned(images, targets, outputs)
            own = self._own_counts(targets, 1)
            counts = {name: count * float(num_parts * replica.count()) for name, count in own.items()}
        terms = {
            "class_loss": self._class_term(images, targets, outputs),
            "box_loss": self._box_term(images, targets, outputs),
            "landmark_loss": losses.landmark_loss(
                outputs["landmark_deltas"], targets["landmark_deltas"], targets["landmark_weight"]
            ),
        }
        factors = (settings.class_weight, settings.box_weight, settings.landmark_weight)
        loss = tf.add_n(
            [
                factor * total / tf.maximum(counts[name], 1.0)
                for factor, (name, (total, _)) in zip(factors, terms.items())
            ]
        )
        if self._photometric is not None:
            loss += self._dense_term(images, targets, outputs, training=training, num_parts=num_parts)
        for name, (total, count) in terms.items():
            self._trackers[name].update_state(total / tf.maximum(count, 1.0), sample_weight=count)
        # Trackers average over parts and replicas, whose shares add up.
        self._trackers["loss"].update_state(loss * float(num_parts * replica.count()))
        found, num_positive = losses.recall(outputs["scores"], targets["state"])
        self._trackers["recall"].update_state(tf.math.divide_no_nan(found, num_positive), sample_weight=num_positive)
        return loss

    def _class_term(self, images, targets, outputs):
        settings, scores, state = self.config.loss, outputs["scores"], targets["state"]
        if settings.class_loss == "quality":
            quality = tf.ones_like(scores[..., 0])
            if settings.quality_target == "overlap":
                args = outputs["box_deltas"], targets["matched_box"], state
                quality = losses.quality(*args, **self._geometry(images))
            return losses.quality_loss(scores, state, quality, gamma=settings.focal_gamma, alpha=settings.focal_alpha)
        if settings.class_loss == "focal":
            return losses.focal_loss(scores, state, gamma=settings.focal_gamma, alpha=settings.focal_alpha)
        if settings.ohem_pool == "batch":
            scores, state = tf.reshape(scores, [1, -1, 2]), tf.reshape(state, [1, -1])
        total, count = losses.score_loss(scores, state, settings.negative_ratio)
        return total, losses.positive_count(state) if settings.class_count == "positive" else count

    def _box_term(self, images, targets, outputs):
        kind = self.config.loss.box_loss
        if kind == "smooth_l1":
            return losses.box_loss(outputs["box_deltas"], targets["box_deltas"], targets["state"])
        args = outputs["box_deltas"], targets["matched_box"], targets["state"]
        return losses.overlap_loss(*args, **self._geometry(images), kind=kind)

    def _geometry(self, images) -> dict:
        anchors = self.config.anchors
        all_anchors = anchor.generate(tf.shape(images)[1:3], anchors.strides, anchors.sizes)
        return {"anchors": all_anchors, "variances": anchors.variances}

    def _dense_term(self, images, targets, outputs, *, training, num_parts):
        settings = self.config.loss
        total, error, count = self._photometric(images, targets, outputs)
        self._trackers["dense_loss"].update_state(total / tf.maximum(count, 1.0), sample_weight=count)
        self._trackers["dense_error"].update_state(tf.math.divide_no_nan(error, count), sample_weight=count)
        if num_parts == 1:
            whole = replica.total({"dense_loss": count})["dense_loss"]
        else:  # replicas cannot talk inside the loop over parts, so all parts count as much
            whole = count * float(num_parts * replica.count())
        weight = settings.dense_weight
        optimizer = getattr(self, "optimizer", None)
        if training and settings.dense_warmup and optimizer is not None:
            step = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.float32)
            weight *= tf.minimum((step + 1.0) / settings.dense_warmup, 1.0)
        return weight * total / tf.maximum(whole, 1.0)

    def detector(self) -> keras.Model:
        """Returns the model without its dense head, sharing the other layers: what exports and detectors run."""
        if not self.config.network.dense:
            return self
        return keras.Model(self.input, {name: self.output[name] for name in head.SHAPES}, name=self.name)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Returns the trackers that `compute_loss` updated."""
        return {name: tracker.result() for name, tracker in self._trackers.items()}

    def get_config(self):
        """Returns what `from_config` needs."""
        return {"config": self.config.to_model_dict(), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds a model without its weights; how it was trained is not part of it."""
        return cls(config_lib.Config.from_model_dict(config["config"]), name=config["name"])


def _shape_targets(targets: dict) -> dict:
    """Gives targets the types and last axes that they have; those out of a generator have lost them."""
    shaped = {name: tf.ensure_shape(targets[name], shape) for name, shape in _TARGET_SHAPES.items() if name in targets}
    if "state" in shaped:
        shaped["state"] = tf.cast(shaped["state"], tf.int32)
    return {**targets, **shaped}


def _as_generator(batches):
    """Wraps iterators of other kinds, such as `as_numpy_iterator`'s: of iterators Keras 3 knows generators only."""
    is_other = isinstance(batches, collections.abc.Iterator) and not isinstance(batches, types.GeneratorType)
    return (batch for batch in batches) if is_other else batches


def _levels(config: config_lib.Config) -> list[int]:
    return [stride.bit_length() - 1 for stride in config.anchors.strides]  # stride 8 is level 3


def _build(image, config: config_lib.Config) -> dict:
    network, anchors = config.network, config.anchors
    levels = _levels(config)
    slope = network.negative_slope
    mean = backbone.mean(network.backbone, network.backbone_layout)
    centred = preprocessing.SubtractMean(mean, name="subtract_mean")(image)
    features = backbone.build(network.backbone, centred, negative_slope=slope, layout=network.backbone_layout)
    deformable = None
    if network.use_deformable:
        deformable = {"tile": network.deform_tile, "sampler": network.deform_sampler}
    maps = pyramid.build(
        {name: x for name, x in features.items() if int(name[1:]) in levels},
        network.pyramid_channels,
        negative_slope=slope,
        num_extra=sum(level > 5 for level in levels),
        deformable=deformable,
    )
    maps = {
        name: context.build(
            x, network.pyramid_channels, negative_slope=slope, name=f"context_{name}", deformable=deformable
        )
        for name, x in maps.items()
    }
    dense_maps = None
    if network.dense:
        dense_maps = mesh_tower.build(centred, maps, network.dense_channels) if network.dense_channels else maps
    return head.build(
        maps, anchors.num_per_location, use_shared_heads=network.use_shared_heads, dense_levels=dense_maps
    )


def _photometric(config: config_lib.Config):
    # Here and not above: tensorflow-graphics takes a second to import, and only training a dense head needs it.
    from keras_retinaface.mesh import photometric

    return photometric.Photometric(config.loss, config.anchors)
