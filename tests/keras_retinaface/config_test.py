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


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        (config_lib.Anchors, {"strides": (8, 12)}, "`strides` must be powers of two"),
        (config_lib.Anchors, {"strides": (8, 32)}, "`strides` must double"),
        (config_lib.Anchors, {"sizes": ((1.0,),)}, "one non-empty tuple per stride"),
        (config_lib.Anchors, {"negative_iou": 0.6}, "`negative_iou` and `positive_iou`"),
        (config_lib.Network, {"backbone": "vgg"}, "Received: backbone='vgg'"),
        (config_lib.Network, {"pyramid_channels": 30}, "multiple of 4"),
        (config_lib.Network, {"backbone_layout": "jax"}, "Received: backbone_layout='jax'"),
        (config_lib.Network, {"deform_tile": 0}, "Received: deform_tile=0"),
        (config_lib.Network, {"deform_sampler": "cubic"}, "Received: deform_sampler='cubic'"),
        (config_lib.Training, {"frozen_stages": 6}, "`frozen_stages` must be in [0, 5]"),
        (config_lib.Training, {"ema_decay": 1.0}, "`ema_decay` must be in [0, 1). Received: ema_decay=1.0"),
        (config_lib.Loss, {"box_weight": -1}, "Received: box_weight=-1"),
        (config_lib.Loss, {"class_loss": "hinge"}, "`class_loss` must be one of ('ohem', 'focal', 'quality')"),
        (config_lib.Loss, {"class_count": "all"}, "Received: class_count='all'"),
        (config_lib.Loss, {"ohem_pool": "level"}, "Received: ohem_pool='level'"),
        (config_lib.Loss, {"box_loss": "iou"}, "Received: box_loss='iou'"),
        (config_lib.Loss, {"focal_gamma": -1.0}, "`focal_gamma` must not be negative"),
        (config_lib.Loss, {"focal_alpha": 1.0}, "`focal_alpha` must be in (0, 1). Received: focal_alpha=1.0"),
        (config_lib.Training, {"optimizer": "lion"}, "`optimizer` must be one of ('sgd', 'adam')"),
        (config_lib.Training, {"schedule": "flat"}, "Received: schedule='flat'"),
        (config_lib.Training, {"decay_mode": "l1"}, "Received: decay_mode='l1'"),
        (config_lib.Training, {"clip_norm": -1.0}, "`clip_norm` must not be negative"),
        (config_lib.Training, {"backbone_rate": -1.0}, "Received: backbone_rate=-1.0"),
        (config_lib.Training, {"momentum": 1.0}, "`momentum` must be in [0, 1)"),
        (config_lib.Training, {"accumulate_steps": 3}, "`accumulate_steps` must divide `batch_size`"),
        (config_lib.Augmentation, {"image_size": (640, 8)}, "`image_size` must be"),
        (config_lib.Augmentation, {"crop_pixels": (0.5, 9.0)}, "`crop_pixels` must be (smallest, largest), each 1 or"),
        (config_lib.Augmentation, {"crop_pixels": (9.0, 5.0)}, "Received: crop_pixels=(9.0, 5.0)"),
        (
            config_lib.Augmentation,
            {"native_scale": (0.0, 2.0)},
            "`native_scale` must be (smallest, largest), each 0.01",
        ),
        (
            config_lib.Augmentation,
            {"native_scale": (1.0, 2.0), "crop_pixels": (9.0, 50.0)},
            "`crop_pixels` and `native_scale` exclude each other",
        ),
        (config_lib.Augmentation, {"max_cut": 1.5}, "`max_cut` must be in [0, 1.0]"),
        (config_lib.Anchors, {"assignment": "best"}, "`assignment` must be one of ('paper', 'dynamic')"),
        (config_lib.Training, {"milestones": (0.9, 0.1)}, "`milestones` must rise"),
        (config_lib.Training, {"batch_size": 0}, "`batch_size` must be 1 or more"),
        (config_lib.Detection, {"iou_threshold": 1.1}, "`iou_threshold` must be in"),
    ],
)
def test_bad_values_name_the_field(section, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        section(**fields)


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
