"""Makes a workdir of a public RetinaFace checkpoint, which every command takes.

    retinaface import Resnet50_Final.pth --output=runs/resnet50
    retinaface import retinaface.h5 --output=runs/insightface
    retinaface import checkpoints/retinaface_res50 --output=runs/peteryux
    python -m keras_retinaface.cli.imports retinaface_mv2.pth --output=runs/mv2

Writes OUTPUT/config.json, model.keras, and network.flags, with which training builds the same network: retinaface train
--flagfile=OUTPUT/network.flags --init=OUTPUT. docs/import.md says which files are known. Never downloads.
"""

from __future__ import annotations

import dataclasses
import pathlib

from absl import app, flags, logging

from keras_retinaface import atomic, output, program, stopping
from keras_retinaface import config as config_lib
from keras_retinaface.weights import imports

_OUTPUT = flags.DEFINE_string("output", None, "Folder to write into.", required=True)
_PROJECT = flags.DEFINE_enum(
    "project",
    None,
    imports.PROJECTS,
    "Whose checkpoint it is. Only ternaus's and biubug6's ResNet-50 have the same names; which of them it is, is told "
    "by its first norm, and this flag decides.",
)
_CONFIG, _MODEL, _FLAGS = "config.json", "model.keras", "network.flags"


def _write(folder: pathlib.Path, path: str, found: imports.Checkpoint) -> int:
    """Builds the network, gives it the weights and writes the workdir; returns the number of weights."""
    from keras_retinaface.network import model as model_lib
    from keras_retinaface.weights import arrays

    model = model_lib.RetinaFace(found.config)
    arrays.assign(model, found.values, path)
    lines = [f"# The network of {found.project}'s {pathlib.Path(path).name}; weights: --init={folder}\n"]
    default = config_lib.Config()
    for section in ("anchors", "network"):
        own, usual = (dataclasses.asdict(getattr(config, section)) for config in (found.config, default))
        changed = {name: value for name, value in own.items() if value != usual[name]}
        lines += [f"--{name}={config_lib.format_value(value)}\n" for name, value in changed.items()]
    for name, text in ((_CONFIG, found.config.to_json()), (_FLAGS, "".join(lines))):
        with atomic.file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    with atomic.file(folder / _MODEL) as partial:
        model.save(partial)
    return model.count_params()


def _run(path: str) -> int:
    folder = output.make_folder(_OUTPUT.value, _OUTPUT.name)
    originals = output.Originals([path])
    for name in (_CONFIG, _MODEL, _FLAGS):
        originals.check(folder / name, _OUTPUT.name)
    if (folder / "checkpoints").exists():
        raise ValueError(f"--output={folder} is the workdir of a run, which would lose its model; give another")
    found = imports.read(path, _PROJECT.value or "")
    count = _write(folder, path, found)
    network = found.config.network
    logging.info("%s: %s's %s, %d weights", path, found.project, network.backbone, count)
    logging.info("wrote %s", folder)
    return 0


def main(argv):
    """Imports the file or folder that is named."""
    if len(argv) != 2:
        raise app.UsageError(f"give one file or folder to import. Received: {argv[1:]}")
    return stopping.run(lambda: _run(argv[1]))


if __name__ == "__main__":
    program.run(main)
