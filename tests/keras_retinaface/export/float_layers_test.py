import pytest

from keras_retinaface.export import float_layers

_LAYERS = ("stage1_0", "stage1_0_bn", "stage2_0", "class_P3")


def test_usual_ones_that_are_not_there_are_passed_over_and_asked_ones_are_not():
    assert float_layers.choose(_LAYERS, None, (*float_layers.FIRST_MAPS, "class_*")) == {
        "stage1_0",
        "stage1_0_bn",
        "class_P3",
    }
    assert float_layers.choose(_LAYERS, ["stage2_0"], float_layers.FIRST_MAPS) == {"stage2_0"}
    assert float_layers.choose(_LAYERS, [], float_layers.FIRST_MAPS) == set()
    with pytest.raises(ValueError, match=r"Received: \['stage3\*'\], which match none"):
        float_layers.choose(_LAYERS, ["stage2_0", "stage3*"], ())
