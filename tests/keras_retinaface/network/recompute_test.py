import keras
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.network import model
from keras_retinaface.training import optimizer
from tests import batches

PAPER = config_lib.Config.preset("paper_resnet50")


@pytest.mark.long
def test_recomputed_training_step_is_the_same_step():
    config = PAPER.replace(weight_decay=0.0)
    small, states = PAPER.replace(backbone="mobilenet_v2", pyramid_channels=8, use_deformable=False), []
    for use_recompute in (False, True):
        keras.utils.set_random_seed(3)
        # Deformable convolutions compute again in any case, and take long to trace.
        retinaface = model.RetinaFace(small.replace(use_recompute=use_recompute))
        retinaface.compile(optimizer=optimizer.make_optimizer(config.training, 10, retinaface))
        images, targets = batches.images(2, 64, 64), batches.random_targets(config, (64, 64), 2)
        losses = [retinaface.train_on_batch(images, targets, return_dict=True)["loss"] for _ in range(2)]
        states.append((losses, {variable.name: np.array(variable) for variable in retinaface.weights}, retinaface))
    np.testing.assert_allclose(states[0][0], states[1][0], rtol=1e-4)
    for ours, plain in zip(states[1][2].weights, states[0][2].weights):
        np.testing.assert_allclose(ours, plain, atol=2e-3, rtol=1e-2, err_msg=plain.name)
    names = {layer.name for layer in states[1][2].layers}
    assert names == {layer.name for layer in states[0][2].layers}
