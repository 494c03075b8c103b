import re

import pytest

from keras_retinaface import config as config_lib


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iou_threshold": 1.1}, "`iou_threshold` must be in"),
    ],
)
def test_bad_values_name_the_field(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config_lib.Detection(**fields)
