import re

import pytest

from keras_retinaface import config as config_lib


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": (640, 8)}, "`image_size` must be"),
        ({"crop_pixels": (0.5, 9.0)}, "`crop_pixels` must be (smallest, largest), each 1 or"),
        ({"crop_pixels": (9.0, 5.0)}, "Received: crop_pixels=(9.0, 5.0)"),
        ({"native_scale": (0.0, 2.0)}, "`native_scale` must be (smallest, largest), each 0.01"),
        (
            {"native_scale": (1.0, 2.0), "crop_pixels": (9.0, 50.0)},
            "`crop_pixels` and `native_scale` exclude each other",
        ),
        ({"max_cut": 1.5}, "`max_cut` must be in [0, 1.0]"),
    ],
)
def test_bad_values_name_the_field(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config_lib.Augmentation(**fields)
