import dataclasses

import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.config import text


def test_every_field_of_the_config_is_described():
    fields = [f.name for s in dataclasses.fields(config_lib.Config) for f in dataclasses.fields(s.default)]
    assert sorted(config_lib.describe_fields()) == sorted(fields)


def test_parse_reads_what_fields_hold():
    assert config_lib.parse("sizes", "16,32;64,128") == ((16.0, 32.0), (64.0, 128.0))
    assert config_lib.parse("image_size", "320,640") == (320, 640)
    assert config_lib.parse("use_frozen_norms", "true") is True
    with pytest.raises(ValueError, match="`epochs` must be like '80'. Received: 'many'"):
        config_lib.parse("epochs", "many")


@pytest.mark.parametrize("name", sorted(config_lib.PRESETS))
def test_what_a_flag_says_is_read_back(name):
    config = config_lib.Config.preset(name).replace(image_mean=(1.5, 2.0, 3.0), frozen_stages=2, weight_decay=1e-7)
    for section in dataclasses.fields(config):
        for field, value in dataclasses.asdict(getattr(config, section.name)).items():
            assert text.parse(field, config_lib.format_value(value)) == value, field


@pytest.mark.parametrize(
    ("name", "said"), [("use_flip", "true"), ("dense", "yes"), ("image_size", "320;640"), ("sizes", "16,32;64,b")]
)
def test_what_no_field_holds_is_refused(name, said):
    with pytest.raises(ValueError, match=name):
        text.parse(name, said)


def test_an_empty_text_is_an_empty_tuple_where_one_may_stand():
    assert text.parse("image_mean", " ") == ()
    with pytest.raises(ValueError, match="`strides` must be like '8,16,32'. Received: ''"):
        text.parse("strides", "")
