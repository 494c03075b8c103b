"""The table of arrows: which room may import which, anywhere in a file; no circles; who loads without TensorFlow."""

import ast
import functools
import re
import subprocess
import sys

import pytest

from tests import conftest
from tools import rooms

_LIBRARY = "keras_retinaface"
_EVERYTHING = "*"
# A room, or a module of one with a row of its own, and what it may import besides its own room. An entry in brackets
# may be imported inside functions only. docs/architecture.md says the same in words.
_TABLE = {
    "image_mean": "",
    "config": "image_mean",
    "atomic": "",
    "output": "",
    "stopping": "",
    "extras": "",
    "program": "extras",
    "__main__": "cli",
    "formats": "",
    "pixel_limit": "",
    "geometry": "pixel_limit",
    "media": "atomic pixel_limit",
    "layers": "geometry image_mean",
    "weights": "image_mean config atomic formats layers.layer_name",
    "weights.imagenet": "config atomic formats layers",
    "mesh": "config geometry atomic formats",
    "mesh.pretrain": "config geometry atomic formats program",
    "network": "config geometry layers weights (mesh)",
    "inference": "config extras media weights formats geometry.overlap geometry.five_points (network) (mesh)",
    "bulk": "atomic extras formats media inference (mesh)",
    "evaluation": "inference media mesh atomic formats geometry.overlap geometry.five_points geometry.mesh_code",
    "export": "config pixel_limit geometry inference network layers atomic formats",
    "training": "config atomic media weights layers network inference evaluation",
    "cli": _EVERYTHING,
    "data_pipeline": "config atomic output stopping program formats geometry media.image_file mesh.face_model",
}
# Rooms and modules that must load where there is no TensorFlow.
_WITHOUT_TENSORFLOW = (
    "config",
    "atomic",
    "output",
    "stopping",
    "extras",
    "program",
    "pixel_limit",
    "formats",
    "media",
    "inference",
    "bulk",
    "weights.arrays",
    "weights.shipped",
    "weights.imports",
    "weights.imports_insightface",
    "weights.imports_onnx",
    "weights.imports_pytorch",
    "weights.imports_peteryux",
    "weights.imports_onnx_insightface",
    "weights.keras_name",
    "weights.torch_name",
    "geometry.five_points",
    "geometry.mesh_code",
    "geometry.overlap",
    "image_mean",
    "layers.layer_name",
    "mesh.face_model",
    "evaluation",
)
_WITH_TENSORFLOW = ("evaluation.mesh_fit",)
# Files without a test file of their own name beside them, and the one that exercises them.
_TESTED_IN = {
    "__main__": "tests/keras_retinaface/cli/main_test.py",
    "bulk.cluster": "tests/keras_retinaface/cli/bulk_test.py",
    "bulk.job": "tests/keras_retinaface/cli/worker_flags_test.py",
    "bulk.pictures": "tests/keras_retinaface/cli/detect_test.py",
    "cli.detection_flags": "tests/keras_retinaface/cli/detect_test.py",
    "cli.train": "tests/survival_test.py",
    "evaluation.dlib_xml": "tests/keras_retinaface/evaluation/annotation_test.py",
    "evaluation.pairing": "tests/keras_retinaface/evaluation/coco_test.py",
    "export.onnx_decoding": "tests/keras_retinaface/export/onnx_test.py",
    "export.onnx_graph": "tests/keras_retinaface/export/onnx_test.py",
    "export.onnx_int8": "tests/keras_retinaface/export/onnx_test.py",
    "export.onnx_layers": "tests/keras_retinaface/export/onnx_test.py",
    "geometry.five_points": "tests/keras_retinaface/evaluation/annotation_test.py",
    "geometry.mesh_code": "tests/keras_retinaface/mesh/dense_loss_test.py",
    "media.libtiff": "tests/keras_retinaface/media/image_file_header_test.py",
    "mesh.drawing": "tests/keras_retinaface/cli/detect_test.py",
    "image_mean": "tests/keras_retinaface/inference/detector_test.py",
    "weights.imports_onnx_insightface": "tests/keras_retinaface/weights/imports_insightface_test.py",
    "weights.keras_name": "tests/keras_retinaface/weights/imagenet_test.py",
}


@functools.cache
def _modules():
    """Returns the text of every module of the library and the pipeline, by dotted name."""
    return rooms.sources()


@functools.cache
def _tree(name):
    return ast.parse(_modules()[name])


@functools.cache
def _imports(name):
    """Returns the modules of ours that a module imports, each with whether it does so inside a function only."""
    levels = {node.level for node in ast.walk(_tree(name)) if isinstance(node, ast.ImportFrom)}
    assert levels <= {0}, f"{name}: imports are absolute"
    return rooms.imports(_tree(name), _modules())


def _path(name):
    """Returns the file of a module."""
    path = conftest.ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_in(name, row):
    return name == row or name.startswith(f"{row}.")


def _short(name):
    return name.removeprefix(f"{_LIBRARY}.") if name != _LIBRARY else ""


def _row(name):
    """Returns the row of the table that a module stands in, the most exact one."""
    return max((row for row in _TABLE if _is_in(_short(name), row)), key=len, default=None)


def _violations(name):
    row = _row(name)
    if _short(name) == "":  # the door names modules as text, and says what to install for them
        return sorted(set(_imports(name)) - {f"{_LIBRARY}.extras"})
    assert row is not None, f"{name} stands in no room of the table"
    if _TABLE[row] == _EVERYTHING:
        return []
    always = [entry for entry in _TABLE[row].split() if not entry.startswith("(")]
    lazily = [entry.strip("()") for entry in _TABLE[row].split() if entry.startswith("(")]
    room = row.split(".")[0]
    found = []
    for target, is_lazy in _imports(name).items():
        short = _short(target)
        if short and not any(_is_in(short, entry) for entry in [room, *always, *(lazily if is_lazy else [])]):
            found.append(target)
    return found


@pytest.mark.parametrize("name", sorted(_modules()))
def test_a_module_imports_what_its_room_may(name):
    assert not _violations(name), f"{name} may import: {_TABLE[_row(name)]}"


def test_the_document_has_the_same_arrows():
    rows = (conftest.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## One trip")[0].splitlines()
    said = {row.split("|")[1].strip(" `"): row.split("|")[3] for row in rows if row.startswith("| `")}
    for room, cell in said.items():
        of_room = {name: entry for name, entry in _TABLE.items() if _is_in(name, room)}
        wanted = {entry.strip("()") for entries in of_room.values() for entry in entries.split()}
        named = {word for word in re.findall(r"[a-z_]+(?:\.[a-z_]+)?", cell) if word.split(".")[0] in _TABLE} - {room}
        assert named == wanted or wanted == {_EVERYTHING}, f"docs/architecture.md, {room}: {named ^ wanted}"
    assert {name.split(".")[0] for name in _TABLE} - {"__main__"} <= set(said)


def test_there_is_no_circle_of_files():
    state, circle = {}, []

    def visit(name, path):
        state[name] = "open"
        for target in _imports(name):
            if state.get(target) == "open":
                circle.append([*path[path.index(target) :], target])
            elif target not in state:
                visit(target, [*path, target])
        state[name] = "done"

    for name in _modules():
        if name not in state:
            visit(name, [name])
    assert not circle


def test_rooms_that_promise_it_load_without_tensorflow():
    wanted = [
        name
        for name in sorted(_modules())
        if any(_is_in(_short(name), row) for row in _WITHOUT_TENSORFLOW)
        and not any(_is_in(_short(name), row) for row in _WITH_TENSORFLOW)
    ]
    assert len(wanted) > 25
    code = f"""
import importlib, sys
for name in {[_LIBRARY, *wanted]}:
    importlib.import_module(name)
    loaded = {{"tensorflow", "keras", "tensorflow_graphics", "tensorflow_addons"}} & set(sys.modules)
    assert not loaded, f"{{name}} loads {{loaded}}"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=conftest.ROOT)
    assert result.returncode == 0, result.stderr


def test_flags_and_print_stay_in_commands():
    for name, text in _modules().items():
        if _is_in(_short(name), "cli") or _short(name) == "program" or '__name__ == "__main__"' in text:
            continue
        nodes = ast.walk(_tree(name))
        calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        assert "print" not in calls, name
        assert "from absl import flags" not in text and "flags.DEFINE" not in text, name


def _everything():
    """Returns the path of every Python file of the project, tests, tools and examples too."""
    folders = (*rooms.PACKAGES, "tests", "tools", "benchmarks", "examples")
    return [*conftest.ROOT.glob("*.py"), *(path for name in folders for path in (conftest.ROOT / name).rglob("*.py"))]


def test_no_file_is_longer_than_one_reads_at_a_sitting():
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _everything()}
    assert len(lengths) > 300
    assert not {path: length for path, length in lengths.items() if length > 350}


def test_no_body_is_longer_than_a_page():
    found = {str(path): rooms.bodies(ast.parse(path.read_text(encoding="utf-8"))) for path in _everything()}
    assert not {f"{path}: {name}": n for path, named in found.items() for name, n in named.items() if n > 60}


def test_every_file_has_its_tests_where_one_looks_for_them():
    missing, stale = [], []
    for name in _modules():
        path = _path(name)
        own = conftest.ROOT / "tests" / path.relative_to(conftest.ROOT).with_name(f"{path.stem}_test.py")
        told = _TESTED_IN.get(_short(name) or name)
        if path.stem == "__init__" and told is None:
            continue
        if own.is_file() == (told is not None):
            (stale if told else missing).append(name)
    assert not missing, "no test file of that name, and no row in _TESTED_IN"
    assert not stale
    assert set(_TESTED_IN) <= {_short(name) for name in _modules()}
    assert all((conftest.ROOT / told).is_file() for told in _TESTED_IN.values())
