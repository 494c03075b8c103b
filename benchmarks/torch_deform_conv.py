"""Runs torchvision's deform_conv2d when told to on stdin; answers with seconds. Started by `deform_conv`."""

import sys
import time

import torch
import torchvision


def main():
    size, channels, filters = (int(value) for value in sys.argv[1:])
    features = torch.randn(1, channels, size, size, requires_grad=True)
    offsets = (torch.rand(1, 18, size, size) * 4 - 2).requires_grad_()
    mask = (torch.rand(1, 9, size, size) * 2).requires_grad_()
    kernel = torch.randn(filters, channels, 3, 3, requires_grad=True)
    for line in sys.stdin:
        start = time.perf_counter()
        with torch.set_grad_enabled(line.strip() == "both"):
            outputs = torchvision.ops.deform_conv2d(features, offsets, kernel, padding=1, mask=mask)
            if outputs.requires_grad:
                outputs.sum().backward()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
