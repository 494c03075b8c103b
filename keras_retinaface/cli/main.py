"""The command `retinaface`: one word says what to do, the flags after it are those of the script of that name."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import NamedTuple

import keras_retinaface
from keras_retinaface import extras, program


class _Command(NamedTuple):
    """A word after `retinaface`: the module whose `main` it runs, and what it does in a line."""

    word: str
    module: str
    line: str


COMMANDS = (
    _Command("detect", "keras_retinaface.cli.detect", "find faces in images, folders, films or a camera"),
    _Command("train", "keras_retinaface.cli.train", "train or fine-tune on your own annotations"),
    _Command("evaluate", "keras_retinaface.cli.evaluate", "measure a model by WIDER FACE, FDDB or points of your own"),
    _Command(
        "export", "keras_retinaface.cli.export", "write a .tflite, .onnx or SavedModel and compare it with the model"
    ),
    _Command("import", "keras_retinaface.cli.imports", "make a workdir of a public checkpoint"),
    _Command("bulk", "keras_retinaface.cli.bulk", "find faces in archives, on many machines, by Ray"),
    _Command("label", "keras_retinaface.cli.label", "write annotations for photos without any, to train on"),
    _Command("view", "data_pipeline.view", "draw training samples as the network gets them"),
)

_EXAMPLES = """\
Start here:
  {0} detect --images=photo.jpg --output=drawn              draws the faces of a photo
  {0} detect --images=folder --json=faces.jsonl             one line an image: boxes, scores, five points
  {0} detect --help                                         every flag of a command"""


def _teach(called: str) -> str:
    width = max(len(row.word) for row in COMMANDS)
    rows = "\n".join(f"  {row.word:{width}}  {row.line}" for row in COMMANDS)
    return (
        f"usage: {called} COMMAND [--flag=value ...]\n\nFinds faces with RetinaFace "
        f"({keras_retinaface.__version__}).\n\n{rows}\n\n{_EXAMPLES.format(called)}"
    )


def main(argv: list[str] | None = None) -> int | None:
    """Runs the command that the first word names; returns the status where it does not leave by itself."""
    argv = list(sys.argv if argv is None else argv)
    called = "python -m keras_retinaface" if os.path.basename(argv[0]) == "__main__.py" else "retinaface"
    word, *arguments = argv[1:] or ["help"]
    if word == "help" and arguments:
        word, arguments = arguments[0], ["--help"]
    if word in ("help", "-h", "--help"):
        print(_teach(called))
        return 0
    if word in ("--version", "-V"):
        print(f"retinaface {keras_retinaface.__version__}")
        return 0
    by_word = {row.word: row for row in COMMANDS}
    if word not in by_word:
        near = difflib.get_close_matches(word, by_word, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        print(f"{called}: {hint}expected one of {', '.join(by_word)}. Received: {word!r}", file=sys.stderr)
        return 2
    name = f"{called} {word}"
    try:
        module = importlib.import_module(by_word[word].module)
    except ImportError as error:
        said = extras.explain(error, name)
        if said is None:
            raise
        print(said, file=sys.stderr)
        return 1
    return program.run(module.main, name=name, argv=[name, *arguments])
