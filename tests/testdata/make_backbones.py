"""Writes backbones.npz: feature maps that torchvision's networks give with weights drawn by name.

    python tests/testdata/make_backbones.py

Needs torch and torchvision (made with torch 2.14.1, torchvision 0.29.1, on the CPU). The weights are not stored: the
test draws them again with `draw`, from the names and shapes that are.
"""

import pathlib
import zlib

import numpy as np

NETWORKS = {
    "resnet50": {"layer1": "C2", "layer2": "C3", "layer3": "C4", "layer4": "C5"},
    "mobilenet_v2": {"features.3": "C2", "features.6": "C3", "features.13": "C4", "features.17": "C5"},
}
# Odd, so that every stride meets a side it does not divide.
IMAGE_SHAPE = (1, 3, 61, 75)
CHANNELS = 12  # of each map that are stored


def draw(name, shape):
    """Draws an array by its PyTorch name: the same everywhere."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) < 2:
        # Scales of norms near one; shifts and means near zero.
        return (random.uniform(-0.3, 0.3, shape) + name.endswith("weight")).astype(np.float32)
    return (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def draw_image():
    """Draws an image, RGB, 0..255."""
    return np.random.default_rng(1).integers(0, 256, IMAGE_SHAPE).astype(np.float32)


def main():
    import torch
    import torchvision

    arrays = {}
    mean, deviation = (
        np.array(values).reshape(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    image = torch.tensor((draw_image() / 255 - mean) / deviation, dtype=torch.float32)
    for network, stages in NETWORKS.items():
        model = getattr(torchvision.models, network)().eval()
        state = {name: tensor for name, tensor in model.state_dict().items() if tensor.ndim}
        model.load_state_dict(
            {name: torch.tensor(draw(name, tuple(x.shape))) for name, x in state.items()}, strict=False
        )
        arrays[f"{network}/names"] = np.array(list(state))
        arrays[f"{network}/shapes"] = np.array([",".join(map(str, tensor.shape)) for tensor in state.values()])
        for name, stage in stages.items():
            model.get_submodule(name).register_forward_hook(
                lambda _, __, output, key=f"{network}/{stage}": arrays.update({key: output})
            )
        with torch.no_grad():
            model(image)
        for stage in stages.values():
            output = arrays[f"{network}/{stage}"].numpy()
            arrays[f"{network}/{stage}"] = np.transpose(output, (0, 2, 3, 1))[..., :CHANNELS]
            print(network, stage, output.shape, float(output.std()))
    np.savez_compressed(pathlib.Path(__file__).with_name("backbones.npz"), **arrays)


if __name__ == "__main__":
    main()
