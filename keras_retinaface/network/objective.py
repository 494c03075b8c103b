"""What a RetinaFace is trained for: the sum of its losses, what each is a mean over, and their metrics."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor
from keras_retinaface.network import assignment, losses, replica

# Names of the trackers that `fit` and `evaluate` report.
METRICS = ("loss", "class_loss", "box_loss", "landmark_loss", "recall")
# With a dense head; the error is the mean absolute difference of colours over covered pixels, 0..1.
DENSE_METRICS = ("dense_loss", "dense_error")
_TARGET_SHAPES = {
    "state": [None, None],
    "box_deltas": [None, None, 4],
    "landmark_deltas": [None, None, 5, 2],
    "landmark_weight": [None, None, 5],
    "matched_box": [None, None, 4],
}


class Objective:
    """The losses of a model and their metrics.

    A plain object, so that Keras takes nothing of it for a part of the model or of its files.

    Args:
        loss: weights and choices of the losses.
        anchors: the model's.
        has_dense: whether the model has a dense head, and with it a dense loss.

    Attributes:
        trackers: `keras.metrics.Mean`s by name.
    """

    def __init__(self, loss: config_lib.Loss, anchors: config_lib.Anchors, *, has_dense: bool = False):
        self._loss, self._anchors, self._has_dense = loss, anchors, has_dense
        names = METRICS + (DENSE_METRICS if has_dense else ())
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self._photometric = None

    @tf.autograph.experimental.do_not_convert
    def prepare(self) -> None:
        """Reads the mesh decoder, if there is a dense loss: once, and before a graph or replicas need it.

        Raises:
            ValueError: if tensorflow-graphics is missing, which nothing else of a dense head needs.
        """
        if self._has_dense and self._photometric is None:
            from keras_retinaface.mesh import graphics

            with graphics.needed_for("the dense loss"):
                from keras_retinaface.mesh import dense_loss
            with tf.init_scope():
                self._photometric = dense_loss.Photometric(self._loss, self._anchors)

    def loss(self, images: tf.Tensor, targets: dict, outputs: dict, *, optimizer=None) -> tf.Tensor:
        """Computes the weighted sum of the losses of a batch and updates the metrics.

        Args:
            images: `[B, H, W, 3]`; the dense loss uses them, the others their size at most.
            targets: targets of anchors, or with dynamic assignment of faces, as `data_pipeline.dataset` makes them.
            outputs: the model's outputs for the images.
            optimizer: optimizer by whose steps the dense loss warms up; None lets it count in full.

        Returns:
            float32 scalar; of a replica its share, all of which add up to the loss.
        """
        targets = self.assigned(images, shape_targets(targets), outputs)
        return self.share(images, targets, outputs, self.counts(targets), optimizer=optimizer)

    def assigned(self, images: tf.Tensor, targets: dict, outputs: dict) -> dict:
        """Returns the targets of anchors: those given, or with dynamic assignment what the outputs make of faces."""
        if "state" in targets:
            return targets
        return assignment.encode(targets, outputs, tf.shape(images)[1:3], self._anchors)

    def counts(self, targets: dict, num_parts: int = 1) -> dict | None:
        """Counts what the terms of the loss are means over, in the batches of all replicas.

        The sum of the replicas' gradients, which is what Keras takes, is then that of one batch on one device.

        Args:
            targets: targets of the whole batch, shaped as by `shape_targets`.
            num_parts: number of parts that the batch is cut into for training.

        Returns:
            float32 scalars by the name of the term; None where they hang on outputs.
        """
        return replica.total(self._own_counts(targets, num_parts)) if "state" in targets else None

    def _own_counts(self, targets, num_parts: int) -> dict:
        state = targets["state"]
        positive = losses.positive_count(state)
        if self._loss.class_loss == "ohem" and self._loss.class_count == "sampled":
            pools = num_parts if self._loss.ohem_pool == "batch" else tf.shape(state)[0]
            sampled = losses.score_count(tf.reshape(state, [pools, -1]), self._loss.negative_ratio)
        else:
            sampled = positive
        return {
            "class_loss": sampled,
            "box_loss": positive,
            "landmark_loss": losses.landmark_count(targets["landmark_weight"]),
        }

    def share(
        self,
        images: tf.Tensor,
        targets: dict,
        outputs: dict,
        counts: dict | None,
        *,
        num_parts: int = 1,
        optimizer=None,
    ) -> tf.Tensor:
        """Computes a part's share of the loss and updates the metrics.

        Args:
            images: the part's.
            targets: the part's, shaped as by `shape_targets`.
            outputs: the model's outputs for the part.
            counts: result of `counts` for the whole batch; None lets every part and replica count as much.
            num_parts: number of parts that the batch is cut into.
            optimizer: see `loss`.

        Returns:
            float32 scalar; the shares of all parts and replicas add up to the loss.
        """
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
        factors = (self._loss.class_weight, self._loss.box_weight, self._loss.landmark_weight)
        loss = tf.add_n(
            [
                factor * total / tf.maximum(counts[name], 1.0)
                for factor, (name, (total, _)) in zip(factors, terms.items())
            ]
        )
        if self._has_dense:
            loss += self._dense_term(images, targets, outputs, num_parts, optimizer)
        for name, (total, count) in terms.items():
            self.trackers[name].update_state(total / tf.maximum(count, 1.0), sample_weight=count)
        # Trackers average over parts and replicas, whose shares add up.
        self.trackers["loss"].update_state(loss * float(num_parts * replica.count()))
        found, num_positive = losses.recall(outputs["scores"], targets["state"])
        self.trackers["recall"].update_state(tf.math.divide_no_nan(found, num_positive), sample_weight=num_positive)
        return loss

    def _class_term(self, images, targets, outputs):
        settings, scores, state = self._loss, outputs["scores"], targets["state"]
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
        if self._loss.box_loss == "smooth_l1":
            return losses.box_loss(outputs["box_deltas"], targets["box_deltas"], targets["state"])
        args = outputs["box_deltas"], targets["matched_box"], targets["state"]
        return losses.overlap_loss(*args, **self._geometry(images), kind=self._loss.box_loss)

    def _geometry(self, images) -> dict:
        all_anchors = anchor.generate(tf.shape(images)[1:3], self._anchors.strides, self._anchors.sizes)
        return {"anchors": all_anchors, "variances": self._anchors.variances}

    def _dense_term(self, images, targets, outputs, num_parts, optimizer):
        total, error, count = self.photometric(images, targets, outputs)
        self.trackers["dense_loss"].update_state(total / tf.maximum(count, 1.0), sample_weight=count)
        self.trackers["dense_error"].update_state(tf.math.divide_no_nan(error, count), sample_weight=count)
        if num_parts == 1:
            whole = replica.total({"dense_loss": count})["dense_loss"]
        else:  # replicas cannot talk inside the loop over parts, so all parts count as much
            whole = count * float(num_parts * replica.count())
        weight = self._loss.dense_weight
        if self._loss.dense_warmup and optimizer is not None:
            step = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.float32)
            weight *= tf.minimum((step + 1.0) / self._loss.dense_warmup, 1.0)
        return weight * total / tf.maximum(whole, 1.0)

    def photometric(self, images: tf.Tensor, targets: dict, outputs: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes the dense loss alone, see `mesh.dense_loss.Photometric`; raises as `prepare`."""
        self.prepare()
        return self._photometric(images, targets, outputs)


def shape_targets(targets: dict) -> dict:
    """Gives targets the types and last axes that they have; those out of a generator have lost them."""
    shaped = {name: tf.ensure_shape(targets[name], shape) for name, shape in _TARGET_SHAPES.items() if name in targets}
    if "state" in shaped:
        shaped["state"] = tf.cast(shaped["state"], tf.int32)
    return {**targets, **shaped}
