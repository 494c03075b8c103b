import re

import pytest

from keras_retinaface import config as config_lib


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"box_weight": -1}, "Received: box_weight=-1"),
        ({"class_loss": "hinge"}, "`class_loss` must be one of ('ohem', 'focal', 'quality')"),
        ({"class_count": "all"}, "Received: class_count='all'"),
        ({"ohem_pool": "level"}, "Received: ohem_pool='level'"),
        ({"box_loss": "iou"}, "Received: box_loss='iou'"),
        ({"focal_gamma": -1.0}, "`focal_gamma` must not be negative"),
        ({"focal_alpha": 1.0}, "`focal_alpha` must be in (0, 1). Received: focal_alpha=1.0"),
    ],
)
def test_bad_values_name_the_field(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config_lib.Loss(**fields)
