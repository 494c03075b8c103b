import numpy as np
import pytest

from keras_retinaface.weights import torch_name


@pytest.mark.parametrize(
    ("name", "prefix", "layer"),
    [
        ("mobilenet_v1", "stage1.0.0", "stage1_0"),
        ("mobilenet_v1", "stage1.0.1", "stage1_0_bn"),
        ("mobilenet_v1", "stage2.3.0", "stage2_3_depthwise"),
        ("mobilenet_v1", "stage2.3.4", "stage2_3_pointwise_bn"),
        ("mobilenet_v1", "stage2.3.1.0", "stage2_3_pointwise"),
        ("mobilenet_v1", "stage2.3.0.1", "stage2_3_depthwise_bn"),
        ("mobilenet_v1", "stage2.3.2", None),
        ("mobilenet_v1", "stage4.0.0", None),
        ("mobilenet_v2", "features.0.0", "mobile_0"),
        ("mobilenet_v2", "features.18.1", "mobile_18_bn"),
        ("mobilenet_v2", "features.1.conv.0.0", "mobile_1_depthwise"),
        ("mobilenet_v2", "features.1.conv.1", "mobile_1_project"),
        ("mobilenet_v2", "features.2.conv.0.0", "mobile_2_expand"),
        ("mobilenet_v2", "features.17.conv.3", "mobile_17_project_bn"),
        ("mobilenet_v2", "features.1.conv.3", None),
        ("mobilenet_v2", "features.19.conv.0.0", None),
        ("resnet", "conv1", "conv1"),
        ("resnet", "bn1", "conv1_bn"),
        ("resnet", "layer1.2.conv3", "C2_2_conv3"),
        ("resnet", "layer4.0.bn2", "C5_0_conv2_bn"),
        ("resnet", "layer3.0.downsample.1", "C4_0_shortcut_bn"),
        ("resnet", "layer5.0.conv1", None),
        ("resnet", "fc", None),
        ("behind_backbone", "fpn.output1.0", "lateral_P3"),
        ("behind_backbone", "fpn.merge2.1", "merge_P4_bn"),
        ("behind_backbone", "ssh3.conv7x7_3.1", "context_P5_7x7_3_bn"),
        ("behind_backbone", "ClassHead.0.conv1x1", "class_P3"),
        ("behind_backbone", "landmark_head.landmark_head.2", "landmark_P5"),
        ("behind_backbone", "bbox_head.1", "box_P4"),
        ("behind_backbone", "ssh1.conv9X9.0", None),
        ("behind_backbone", "EyeHead.0.conv1x1", None),
    ],
)
def test_modules_are_layers_of_ours_or_none(name, prefix, layer):
    assert getattr(torch_name, name)(prefix) == layer


def test_kernels_change_their_axes_and_nothing_else():
    kernel = np.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)  # filters, channels, height, width
    name, ours = torch_name.to_ours("lateral_P3", "weight", kernel)
    assert name == "lateral_P3/kernel" and ours.shape == (5, 7, 3, 2) and ours[4, 6, 2, 1] == kernel[1, 2, 4, 6]
    name, ours = torch_name.to_ours("stage2_3_depthwise", "weight", kernel[:, :1])
    assert name == "stage2_3_depthwise/kernel" and ours.shape == (5, 7, 2, 1) and ours[4, 6, 1, 0] == kernel[1, 0, 4, 6]
    assert torch_name.to_ours("class_P3", "bias", kernel)[0] == "class_P3/bias"
    assert torch_name.to_ours("merge_P4_bn", "running_var", kernel)[0] == "merge_P4_bn/moving_variance"
    with pytest.raises(ValueError, match="merge_P4_bn has no epsilon"):
        torch_name.to_ours("merge_P4_bn", "epsilon", kernel)
    with pytest.raises(ValueError, match=r"a convolution kernel has 4 axes. Received: weight of shape \(6, 35\)"):
        torch_name.to_ours("lateral_P3", "weight", kernel.reshape(6, 35))
