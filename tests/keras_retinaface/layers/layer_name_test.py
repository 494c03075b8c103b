import keras
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.layers import backbone, layer_name
from keras_retinaface.network import model as model_lib

_NETWORKS = {
    **{name: config_lib.Config.preset(name) for name in ("mobilenet025", "mobilenet025_dense", "paper_resnet50")},
    "mobilenet_v2": config_lib.Config().replace(backbone="mobilenet_v2"),
    "dense_shared": config_lib.Config.preset("paper_resnet50").replace(dense=True),
    "resnet18": config_lib.Config().replace(backbone="resnet18"),
    "resnet50_v2": config_lib.Config().replace(backbone="resnet50_v2"),
    "one_level": config_lib.Config().replace(strides=(8,), sizes=((16.0, 32.0),)),
}


@pytest.mark.parametrize("name", _NETWORKS)
def test_every_layer_is_in_one_part_and_belongs_to_what_it_follows(name):
    model = model_lib.RetinaFace(_NETWORKS[name])
    parts = {}
    for layer in model.layers:
        parts.setdefault(layer_name.part_of(layer.name), set()).add(layer.name)
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        assert layer_name.is_norm(layer.name) == is_norm
        assert layer_name.is_depthwise(layer.name) == isinstance(layer, keras.layers.DepthwiseConv2D)
        if is_norm and not layer.name.endswith(("_before_bn", "post_bn")):  # which stand before convolutions
            convolution = layer_name.convolution_of(layer.name)
            assert model.get_layer(convolution).output is layer.input and layer_name.norm_of(convolution) == layer.name
    assert set(parts) == set(layer_name.PARTS) - ({layer_name.DENSE_HEAD} if not model.config.network.dense else set())
    stage = f"C{min(5, max(model.config.anchors.strides).bit_length() - 1)}"
    assert {layer.name for layer in backbone.layers_up_to(model, stage)} == parts[layer_name.BACKBONE]
    # The outputs stand in the head that computes them.
    assert {"scores", "box_deltas", "landmark_deltas"} <= parts[layer_name.HEADS]
    convolutions = {n for n in parts[layer_name.HEADS] if isinstance(model.get_layer(n), keras.layers.Conv2D)}
    assert {n for n in convolutions if layer_name.is_score_head(n)} == {n for n in convolutions if n[:5] == "class"}


@pytest.mark.parametrize("name", ["", "stem", "classes", "lateral_C3", "stage1", "context_P3x"])
def test_a_name_of_no_part_is_an_error(name):
    with pytest.raises(ValueError, match="must be of a layer in one of"):
        layer_name.part_of(name)
