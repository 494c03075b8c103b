"""Writes imports_peteryux.npz: what peteryuX/retinaface-tf2's networks give with weights drawn by name.

    python tests/testdata/make_imports_peteryux.py --checkout=CLONE [--checkpoints=FOLDER]

CLONE is one of peteryuX/retinaface-tf2, which is no package. Runs in the base stack (TensorFlow 2.15), whose
MobileNetV2 has a layer less in front than the one that the clone counts from. --checkpoints writes checkpoints of
TensorFlow (NAME/ckpt-1.index), and the outputs for photos, for benchmarks/imports.py. Photos are padded to multiples of
32 first, as the original does; odd sizes end in an error there.
"""

import argparse
import logging
import pathlib
import sys
import types

import make_imports
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
NETWORKS = {"peteryuX_mobilenet_v2": ("MobileNetV2", 64), "peteryuX_resnet50": ("ResNet50", 256)}
_PICKS = {"= 54 ": "= 53 ", "= 116 ": "= 115 ", "= 143 ": "= 142 "}
_HEADS = ("ClassHead", "BboxHead", "LandmarkHead")
_STEP = 32


def draw(name, shape):
    """Draws an array by its path: the same everywhere."""
    if len(shape) < 2:
        return make_imports.draw(name.replace("bn/gamma", "gamma"), shape)
    # Kernels have their filters last; those of depthwise ones have none of their own.
    height, width, inputs, filters = shape
    is_depthwise = name.endswith("depthwise_kernel")
    kernel = make_imports.draw(
        name, (inputs, filters, height, width) if is_depthwise else (filters, inputs, height, width)
    )
    kernel = kernel.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
    return kernel * np.float32(0.01) if name.startswith("Head_") and shape[-1] == 4 else kernel


def pad(image):
    """Pads an image to multiples of 32 with its mean, at the right and at the bottom."""
    rows, columns = (-side % _STEP for side in image.shape[:2])
    padded = np.empty((image.shape[0] + rows, image.shape[1] + columns, 3), np.uint8)
    padded[:] = image.mean((0, 1)).astype(np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def _build(checkout, backbone, channels):
    sys.path.insert(0, str(checkout))
    code = (checkout / "modules" / "models.py").read_text()
    for old, new in {**_PICKS, "use_pretrain=True": "use_pretrain=False"}.items():
        code = code.replace(old, new)
    module = types.ModuleType("peteryux_models")
    exec(compile(code, "models.py", "exec"), module.__dict__)
    config = {"weights_decay": 5e-4, "out_channel": channels, "min_sizes": [[16, 32]] * 3, "backbone_type": backbone}
    return module.RetinaFaceModel({**config, "input_size": None}, training=True)


def _variables(model):
    """Yields every variable by path."""
    import tensorflow as tf

    heads = [layer for kind in _HEADS for layer in model.layers if layer.name.startswith(kind)]
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            for inner in layer.layers:
                for variable in inner.weights:
                    yield f"backbone/{inner.name}/{variable.name.split('/')[-1].split(':')[0]}", variable
        elif layer.name.startswith(("FPN", "SSH")):
            for name, unit in vars(layer).items():
                for part in ("conv", "bn") if hasattr(unit, "bn") else ():
                    for variable in getattr(unit, part).weights:
                        yield f"{layer.name}/{name}/{part}/{variable.name.split('/')[-1].split(':')[0]}", variable
    for number, layer in enumerate(heads):
        for variable in layer.conv.weights:
            yield f"Head_{number}/conv/{variable.name.split('/')[-1].split(':')[0]}", variable


def _outputs(model, image):
    boxes, landmarks, scores = (output.numpy()[0] for output in model(image[None].astype(np.float32), training=False))
    return {"scores": scores[:, 1], "boxes": boxes, "landmarks": landmarks}


def _write_checkpoint(folder, name, model):
    import tensorflow as tf

    tf.train.Checkpoint(step=tf.Variable(0), model=model).save(str(folder / name / "ckpt"))
    arrays = {}
    for photo, images in make_imports._photos():
        arrays[f"{photo}/image"] = pad(images[0])
        arrays.update({f"{photo}/{key}": value for key, value in _outputs(model, pad(images[0])).items()})
    np.savez(folder / f"{name}.npz", **arrays)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkout", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoints", type=pathlib.Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # code that is run from text has no source for AutoGraph
    arrays = {}
    for name, (backbone, channels) in NETWORKS.items():
        model = _build(arguments.checkout, backbone, channels)
        variables = dict(_variables(model))
        if len(variables) != len(model.variables):
            raise ValueError(f"{name}: {len(variables)} paths of {len(model.variables)} variables")
        for path, variable in variables.items():
            variable.assign(draw(path, tuple(variable.shape)))
        found = _outputs(model, pad(make_imports.draw_image()[0]))
        arrays[f"{name}/names"] = np.array(list(variables))
        arrays[f"{name}/shapes"] = np.array([",".join(map(str, variable.shape)) for variable in variables.values()])
        arrays.update({f"{name}/{key}": value[:: make_imports.STEP] for key, value in found.items()})
        print(
            name, {key: (value.shape, float(np.abs(value).max()), float(np.ptp(value))) for key, value in found.items()}
        )
        if arguments.checkpoints:
            _write_checkpoint(arguments.checkpoints, name, model)
    np.savez_compressed(HERE / "imports_peteryux.npz", **arrays)


if __name__ == "__main__":
    main()
