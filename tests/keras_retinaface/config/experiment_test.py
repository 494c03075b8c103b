import dataclasses
import json
import re

import pytest

from keras_retinaface import config as config_lib


@pytest.mark.parametrize("name", sorted(config_lib.PRESETS))
def test_json_round_trip(name):
    config = config_lib.Config.preset(name)
    assert config_lib.Config.from_json(config.to_json()) == config
    assert hash(config_lib.Config.from_json(config.to_json())) == hash(config)


def test_field_names_are_unique_over_sections():
    names = [
        field.name for section in dataclasses.fields(config_lib.Config) for field in dataclasses.fields(section.default)
    ]
    assert len(names) == len(set(names))


def test_paper_anchor_sizes_are_table_1():
    anchors = config_lib.Config.preset("paper_resnet50").anchors
    rounded = [[round(size, 2) for size in level] for level in anchors.sizes]
    assert rounded == [
        [16.0, 20.16, 25.4],
        [32.0, 40.32, 50.8],
        [64.0, 80.63, 101.59],
        [128.0, 161.27, 203.19],
        [256.0, 322.54, 406.37],
    ]


def test_replace_finds_the_section():
    config = config_lib.Config().replace(epochs=3, box_weight=2.0)
    assert (config.training.epochs, config.loss.box_weight) == (3, 2.0)
    assert config.anchors == config_lib.Config().anchors


def test_what_no_network_hangs_on_is_left_out_with_a_line(caplog):
    config = config_lib.Config().replace(epochs=3, strides=(16, 32, 64))
    values = json.loads(config.to_json())
    assert values.pop("format") == 2
    values["detection"] = {"score_threshold": 0.5, "thresholds": 3}
    values["training"]["rate\nof"] = "x"
    values["augmentation"]["zoom"] = None
    values["loss"]["hinge"] = [1]
    with caplog.at_level("INFO"):
        assert config_lib.Config.from_dict(values) == config
        assert config_lib.Config.from_model_dict(values) == config.replace(epochs=80)
    left_out = "left out 'detection', 'loss.hinge', 'augmentation.zoom', 'training.rate\\nof', which"
    assert [record.getMessage().count(left_out) for record in caplog.records] == [1, 1]


def test_a_model_carries_network_anchors_and_loss():
    config = config_lib.Config().replace(epochs=3, pyramid_channels=8, box_weight=2.0, image_size=(64, 64))
    values = json.loads(json.dumps(config.to_model_dict()))
    assert list(values) == ["format", "anchors", "network", "loss"]
    assert config_lib.Config.from_model_dict(values) == config.replace(epochs=80, image_size=(640, 640))


@pytest.mark.parametrize("number", [3, 0, True, "2", None, 1.0])
def test_another_format_is_an_error(number):
    message = "config: `format` must be 1 to 2; a newer version of keras_retinaface writes and reads others. Received: "
    for read in (config_lib.Config.from_dict, config_lib.Config.from_model_dict):
        with pytest.raises(ValueError, match=re.escape(message + f"format={number!r}")):
            read({"format": number})


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="unknown field `anchors.stride`"):
        config_lib.Config.from_dict({"anchors": {"stride": [8]}})
    with pytest.raises(ValueError, match="unknown field `network.depth`"):
        config_lib.Config.from_model_dict({"network": {"depth": 3}})
    with pytest.raises(ValueError, match="unknown field `layers`"):
        config_lib.Config.from_model_dict({"layers": {}})
    with pytest.raises(ValueError, match="no section of Config has a field 'epoch'"):
        config_lib.Config().replace(epoch=1)
    with pytest.raises(ValueError, match="`preset` must be one of"):
        config_lib.Config.preset("resnet")
