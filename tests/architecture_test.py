"""The table of arrows: which room may import which, anywhere in a file; no circles; who loads without TensorFlow."""

import ast
import functools
import subprocess
import sys

import pytest

from tests import conftest

_LIBRARY = "keras_retinaface"
_EVERYTHING = "*"
# A room, or a module of one with a row of its own, and what it may import besides its own room. An entry in brackets
# may be imported inside functions only. docs/architecture.md says the same in words.
_TABLE = {
    "config": "",
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
    "layers": "geometry",
    "weights": "config atomic formats layers.layer_name",
    "weights.imagenet": "config atomic formats layers",
    "mesh": "config geometry atomic formats",
    "mesh.pretrain": "config geometry atomic formats program",
    "network": "config geometry layers weights (mesh)",
    "inference": "config extras media weights formats (network) (mesh)",
    "bulk": "atomic extras formats media inference (mesh)",
    "evaluation": "inference media mesh atomic formats",
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
    "weights.torch_name",
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
    "cli.source_flags": "tests/refusals_test.py",
    "cli.train": "tests/survival_test.py",
    "evaluation.dlib_xml": "tests/keras_retinaface/evaluation/annotation_test.py",
    "evaluation.overlap": "tests/keras_retinaface/evaluation/coco_test.py",
    "export.int8": "tests/keras_retinaface/export/tflite_test.py",
    "export.onnx_decoding": "tests/keras_retinaface/export/onnx_test.py",
    "export.onnx_graph": "tests/keras_retinaface/export/onnx_test.py",
    "export.onnx_layers": "tests/keras_retinaface/export/onnx_test.py",
    "inference.fork": "tests/keras_retinaface/export/tflite_test.py",
    "inference.onnx_check": "tests/keras_retinaface/inference/onnx_runtime_test.py",
    "inference.runtime": "tests/keras_retinaface/export/tflite_test.py",
    "layers.backbone": "tests/keras_retinaface/weights/imagenet_test.py",
    "layers.context": "tests/keras_retinaface/network/paper_model_test.py",
    "layers.convolution": "tests/keras_retinaface/layers/layer_name_test.py",
    "layers.head": "tests/keras_retinaface/layers/layer_name_test.py",
    "layers.mobilenet_v2": "tests/keras_retinaface/weights/imagenet_test.py",
    "layers.pyramid": "tests/conformance_test.py",
    "layers.resnet": "tests/keras_retinaface/weights/imagenet_test.py",
    "layers.resnet_v2": "tests/keras_retinaface/weights/imports_networks_test.py",
    "media.libtiff": "tests/keras_retinaface/media/image_file_header_test.py",
    "mesh.drawing": "tests/keras_retinaface/cli/detect_test.py",
    "network.accumulation": "tests/keras_retinaface/network/model_test.py",
    "network.cost": "tests/keras_retinaface/network/paper_model_test.py",
    "network.objective": "tests/keras_retinaface/network/model_test.py",
    "network.recompute": "tests/keras_retinaface/network/paper_model_test.py",
    "weights.imports_insightface": "tests/keras_retinaface/weights/imports_networks_test.py",
    "weights.imports_onnx": "tests/keras_retinaface/weights/imports_test.py",
    "weights.imports_pytorch": "tests/keras_retinaface/weights/imports_networks_test.py",
    "weights.torch_name": "tests/keras_retinaface/weights/imports_networks_test.py",
}


@functools.cache
def _modules():
    """Returns the path of every module of the library and the pipeline, by dotted name."""
    found = {}
    for folder in (_LIBRARY, "data_pipeline"):
        for path in sorted((conftest.ROOT / folder).rglob("*.py")):
            parts = path.relative_to(conftest.ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def _imports(name):
    """Returns the modules of ours that a module imports, each with whether it does so inside a function only."""
    tree = ast.parse(_modules()[name].read_text(encoding="utf-8"))
    at_top = {id(node) for statement in tree.body for node in _outside_functions(statement)}
    found = {}
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        for target in targets:
            while target not in _modules() and "." in target:
                target = target.rpartition(".")[0]
            if target in _modules():
                found[target] = found.get(target, True) and id(node) not in at_top
    return found


def _outside_functions(node):
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


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
    for name, path in _modules().items():
        text = path.read_text(encoding="utf-8")
        if _is_in(_short(name), "cli") or _short(name) == "program" or '__name__ == "__main__"' in text:
            continue
        tree = ast.parse(text)
        calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        assert "print" not in calls, path
        assert "from absl import flags" not in text and "flags.DEFINE" not in text, path


def test_no_file_is_longer_than_one_reads_at_a_sitting():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in _modules().items()}
    assert not {name: length for name, length in lengths.items() if length > 350}


def test_no_body_is_longer_than_a_page():
    found = {}
    for name, path in _modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                length = node.end_lineno - first.lineno + 1
                if length > 60:
                    found[f"{name}.{node.name}"] = length
    assert not found


def test_every_file_has_its_tests_where_one_looks_for_them():
    missing, stale = [], []
    for name, path in _modules().items():
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
