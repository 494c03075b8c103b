import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.layers import deform_conv
from keras_retinaface.network import cost, model

PAPER = config_lib.Config.preset("paper_resnet50")


@pytest.mark.long
def test_parts_of_the_paper_at_the_size_of_imagenet():
    # Trunks without classifier as published: 25,557,032 and 60,192,808 parameters less 2,049,000 of the classifier;
    # 4.09 and 11.51 billion multiply-adds.
    deep = model.RetinaFace(PAPER.replace(backbone="resnet152", use_deformable=False, pyramid_channels=8))
    assert cost.count(deep, (224, 224))["backbone"] == (58_143_808, 11_511_578_624)
    retinaface = model.RetinaFace(PAPER)
    counts = cost.count(retinaface, (224, 224))
    assert counts["backbone"] == (23_508_032, 4_087_136_256)
    # P5: 2048 * 256 + 2 * 256; P6 reads C5 too.
    assert counts["pyramid"] == (7_661_905, 3_182_545_920)
    assert counts["context"] == (3_624_675, 3_133_141_056)
    assert counts["heads"] == (256 * 3 * 16 + 3 * 16, 256 * 3 * 16 * (56**2 + 28**2 + 14**2 + 7**2 + 4**2))
    assert "| total |" in retinaface.describe()
    deformable = [layer.name for layer in retinaface.layers if isinstance(layer, deform_conv.DeformableConv2D)]
    assert len(deformable) == 3 + 5 * 5
    assert sum(name.startswith("merge_") for name in deformable) == 3


@pytest.mark.long
def test_describe_is_a_table():
    small = PAPER.replace(backbone="mobilenet_v2", pyramid_channels=8)
    lines = model.RetinaFace(small).describe((64, 96)).splitlines()
    assert lines[0] == "| 64 x 96 | parameters | multiply-adds |"
    rows = {line.split(" | ")[0].strip("| "): line.replace(",", "").strip("| ").split(" | ")[1:] for line in lines[2:]}
    assert list(rows) == ["backbone", "pyramid", "context", "heads", "total"]
    for column in (0, 1):
        values = [int(row[column]) for row in rows.values()]
        assert sum(values[:-1]) == values[-1]
    # Heads: 8 channels to 3 * 16 numbers on 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 locations.
    assert rows["heads"] == [str(8 * 48 + 48), str(8 * 48 * 512)]
