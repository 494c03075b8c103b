"""`model.fit` takes its batches from iterators and sequences too, whose arrays have lost their known axes."""

import keras
import numpy as np
import pytest

from data_pipeline import dataset
from keras_retinaface import config as config_lib
from keras_retinaface.network import model as model_lib

_STEPS = 2


class _Sequence(keras.utils.Sequence):
    def __init__(self, batches):
        super().__init__()
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._batches[index]


@pytest.mark.long
def test_iterators_and_sequences_train_alike():
    config = config_lib.Config().replace(image_size=(64, 64), batch_size=2)
    batches = dataset.make_dataset(config, "synthetic:8", None).take(_STEPS)
    model = model_lib.RetinaFace(config)
    model.compile(keras.optimizers.SGD(1e-3))
    start = model.get_weights()
    history = model.fit(
        batches.as_numpy_iterator(),
        steps_per_epoch=_STEPS,
        validation_data=batches.as_numpy_iterator(),
        validation_steps=1,
        verbose=0,
    ).history
    assert np.isfinite(history["val_loss"][0]) and history["val_loss"][0] > 0
    model.set_weights(start)
    sequence = _Sequence(list(batches.as_numpy_iterator()))
    again = model.fit(sequence, shuffle=False, verbose=0).history
    np.testing.assert_allclose(again["loss"][0], history["loss"][0], rtol=1e-4)
