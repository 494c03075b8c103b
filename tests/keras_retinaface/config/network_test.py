import re

import pytest

from keras_retinaface import config as config_lib


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strides": (8, 12)}, "`strides` must be powers of two"),
        ({"strides": (8, 32)}, "`strides` must double"),
        ({"sizes": ((1.0,),)}, "one non-empty tuple per stride"),
        ({"negative_iou": 0.6}, "`negative_iou` and `positive_iou`"),
        ({"assignment": "best"}, "`assignment` must be one of ('paper', 'dynamic')"),
    ],
)
def test_bad_values_of_anchors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config_lib.Anchors(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "vgg"}, "Received: backbone='vgg'"),
        ({"pyramid_channels": 30}, "multiple of 4"),
        ({"backbone_layout": "jax"}, "Received: backbone_layout='jax'"),
        ({"deform_tile": 0}, "Received: deform_tile=0"),
        ({"deform_sampler": "cubic"}, "Received: deform_sampler='cubic'"),
    ],
)
def test_bad_values_of_network_name_the_field(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config_lib.Network(**fields)
