import hashlib

import pytest

from keras_retinaface import config
from keras_retinaface.network import model as model_lib
from keras_retinaface.weights import shipped


def test_every_asset_is_listed_with_its_checksum():
    listed = (shipped.ASSETS / "README.md").read_text()
    for preset in shipped.PRESETS.values():
        assert preset.file in listed and preset.sha256 in listed and preset.licence
        if preset.light:
            assert hashlib.sha256((shipped.ASSETS / preset.light).read_bytes()).hexdigest() in listed


@pytest.mark.parametrize("name", sorted(shipped.PRESETS))
def test_preset_loads_with_its_config(name):
    assert model_lib.RetinaFace.from_preset(name).config == config.Config.preset(name)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="`preset` with shipped weights .*mobilenet025.* Received: 'paper_resnet50'"):
        model_lib.RetinaFace.from_preset("paper_resnet50")


def test_a_changed_asset_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ASSETS", tmp_path)
    (tmp_path / "mobilenet025_public.npz").write_bytes(b"changed")
    with pytest.raises(ValueError, match="expected sha256"):
        model_lib.RetinaFace.from_preset("mobilenet025_public")
