"""Writes deform_conv.npz: torchvision's deform_conv2d and its gradients on random cases.

    python tests/testdata/make_deform_conv.py

Needs torch and torchvision (made with torch 2.14.1, torchvision 0.29.1, on the CPU); nothing else here does.
"""

import pathlib

import numpy as np
import torch
import torchvision

# batch, size, channels, filters, window, stride, padding, dilation, groups of offsets, has a mask, reach of offsets
CASES = {
    "v1": (2, (7, 9), 4, 5, (3, 3), 1, 1, 1, 1, False, 1.5),
    "v2": (1, (8, 6), 3, 4, (3, 3), 1, 1, 1, 1, True, 1.5),
    "stride": (2, (9, 8), 4, 3, (3, 3), 2, 1, 1, 1, True, 1.0),
    "dilation": (1, (9, 10), 4, 3, (3, 3), 1, 2, 2, 1, True, 2.0),
    "groups": (2, (6, 7), 6, 4, (3, 3), 1, 1, 1, 3, True, 1.5),
    "valid_1x3": (1, (5, 8), 4, 2, (1, 3), 1, 0, 1, 2, False, 1.0),
    "far": (1, (5, 6), 2, 3, (3, 3), 1, 1, 1, 1, True, 12.0),
}


def main():
    generator = np.random.default_rng(7)
    arrays = {}
    for name, (
        batch,
        size,
        channels,
        filters,
        window,
        stride,
        padding,
        dilation,
        groups,
        has_mask,
        reach,
    ) in CASES.items():
        output_size = [
            (side + 2 * padding - dilation * (taps - 1) - 1) // stride + 1 for side, taps in zip(size, window)
        ]
        points = groups * window[0] * window[1]
        values = {
            "features": generator.normal(size=(batch, channels, *size)),
            "offsets": generator.uniform(-reach, reach, (batch, 2 * points, *output_size)),
            "kernel": generator.normal(size=(filters, channels, *window)),
        }
        if has_mask:
            values["mask"] = generator.uniform(0, 2, (batch, points, *output_size))
        tensors = {key: torch.tensor(value, dtype=torch.float32, requires_grad=True) for key, value in values.items()}
        outputs = torchvision.ops.deform_conv2d(
            tensors["features"],
            tensors["offsets"],
            tensors["kernel"],
            stride=stride,
            padding=padding,
            dilation=dilation,
            mask=tensors.get("mask"),
        )
        d_outputs = torch.tensor(generator.normal(size=outputs.shape), dtype=torch.float32)
        outputs.backward(d_outputs)
        for key, tensor in {**tensors, "outputs": outputs, "d_outputs": d_outputs}.items():
            arrays[f"{name}/{key}"] = _channels_last(key, tensor.detach().numpy())
            if tensor.grad is not None and key in tensors:
                arrays[f"{name}/d_{key}"] = _channels_last(key, tensor.grad.numpy())
        arrays[f"{name}/settings"] = np.array([stride, padding, dilation], np.int32)
    np.savez_compressed(pathlib.Path(__file__).with_name("deform_conv.npz"), **arrays)


def _channels_last(key, array):
    return np.transpose(array, (2, 3, 1, 0) if key == "kernel" else (0, 2, 3, 1))


if __name__ == "__main__":
    main()
