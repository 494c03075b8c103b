"""Small batches for tests of the network: noise, and targets of which the first anchors are faces."""

import numpy as np

from keras_retinaface.geometry import anchor


def images(*shape):
    return np.random.default_rng(0).uniform(0, 255, (*shape, 3)).astype(np.float32)


def targets(config, images, num_positive):
    num_anchors = anchor.generate(images.shape[1:3], config.anchors.strides, config.anchors.sizes).shape[0]
    batch = len(images)
    state = np.zeros((batch, num_anchors), np.int32)
    state[:, :num_positive] = 1
    return {
        "state": state,
        "box_deltas": np.ones((batch, num_anchors, 4), np.float32),
        "landmark_deltas": np.ones((batch, num_anchors, 5, 2), np.float32),
        "landmark_weight": np.repeat((state == 1)[..., None], 5, -1).astype(np.float32),
        "matched_box": np.ones((batch, num_anchors, 4), np.float32),
    }


def random_targets(config, image_size, batch_size):
    """Returns targets of every kind, as numbers without faces behind them."""
    num_anchors = len(anchor.generate(image_size, config.anchors.strides, config.anchors.sizes))
    random = np.random.default_rng(2)
    return {
        "state": random.choice([-1, 0, 1], (batch_size, num_anchors), p=[0.2, 0.7, 0.1]).astype(np.int32),
        "box_deltas": random.normal(size=(batch_size, num_anchors, 4)).astype(np.float32),
        "landmark_deltas": random.normal(size=(batch_size, num_anchors, 5, 2)).astype(np.float32),
        "landmark_weight": random.choice([0.0, 1.0], (batch_size, num_anchors, 5)).astype(np.float32),
    }
