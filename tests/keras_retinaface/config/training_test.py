import re

import pytest

from keras_retinaface import config as config_lib


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frozen_stages": 6}, "`frozen_stages` must be in [0, 5]"),
        ({"ema_decay": 1.0}, "`ema_decay` must be in [0, 1). Received: ema_decay=1.0"),
        ({"optimizer": "lion"}, "`optimizer` must be one of ('sgd', 'adam')"),
        ({"schedule": "flat"}, "Received: schedule='flat'"),
        ({"decay_mode": "l1"}, "Received: decay_mode='l1'"),
        ({"clip_norm": -1.0}, "`clip_norm` must not be negative"),
        ({"backbone_rate": -1.0}, "Received: backbone_rate=-1.0"),
        ({"momentum": 1.0}, "`momentum` must be in [0, 1)"),
        ({"accumulate_steps": 3}, "`accumulate_steps` must divide `batch_size`"),
        ({"milestones": (0.9, 0.1)}, "`milestones` must rise"),
        ({"batch_size": 0}, "`batch_size` must be 1 or more"),
    ],
)
def test_bad_values_name_the_field(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config_lib.Training(**fields)
