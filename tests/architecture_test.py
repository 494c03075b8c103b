"""The rule of arrows: who may import whom, where flags and print may stand."""

import ast

import pytest

from tests import conftest

# A lower number may not import a higher one; equal numbers may.
_LAYERS = {
    "config": 0,
    "geometry": 0,
    "layers": 1,
    "losses": 1,
    "replica": 1,
    "mesh": 1,
    "model": 2,
    "description": 2,
    "detections": 2,
    "accumulation": 2,
    "recompute": 2,
    "weights": 2,
    # Above the library: only scripts may import it.
    "detection_flags": 4,
}
_TOP = 3
# The one module beside scripts that defines flags, because two scripts share them.
_SHARED_FLAGS = "detection_flags.py"
# Modules that must load where there is no TensorFlow.
_WITHOUT_TENSORFLOW = ("config", "alignment", "detector", "drawing", "image_file", "merging", "resizing", "video")


def _files(folder):
    return sorted((conftest.ROOT / folder).rglob("*.py"))


def _imports(path, top_level_only=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _layer(module):
    parts = module.split(".")
    return _LAYERS.get(parts[1], _TOP) if len(parts) > 1 else None


@pytest.mark.parametrize("path", _files("keras_retinaface"), ids=lambda p: str(p.relative_to(conftest.ROOT)))
def test_arrows_of_the_library(path):
    own = ".".join(path.relative_to(conftest.ROOT).with_suffix("").parts)
    for module in _imports(path, top_level_only=True):
        assert not module.startswith("data_pipeline") or "__main__" in path.read_text(), f"{own} imports {module}"
        if module.startswith("keras_retinaface.") and path.name != "__init__.py":
            assert _layer(module) <= _layer(own), f"{own} imports {module}"


@pytest.mark.parametrize("path", _files("data_pipeline"), ids=lambda p: str(p.relative_to(conftest.ROOT)))
def test_arrows_of_the_pipeline(path):
    allowed = ("keras_retinaface.geometry", "keras_retinaface.config", "keras_retinaface.mesh.face_model")
    for module in _imports(path):
        if module.startswith("keras_retinaface") and module not in ("keras_retinaface", "keras_retinaface.mesh"):
            assert module.startswith(allowed), f"{path.name} imports {module}"


def test_detection_needs_no_tensorflow_at_import():
    for name in _WITHOUT_TENSORFLOW:
        modules = set(_imports(conftest.ROOT / "keras_retinaface" / f"{name}.py", top_level_only=True))
        assert not {m for m in modules if m.split(".")[0] in ("tensorflow", "keras")}, name


def test_flags_and_print_stay_in_scripts():
    for path in _files("keras_retinaface") + _files("data_pipeline"):
        text = path.read_text(encoding="utf-8")
        if path.name == _SHARED_FLAGS:
            continue
        if '__name__ == "__main__"' in text:
            continue
        tree = ast.parse(text)
        names = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        assert "print" not in names, path
        assert not [module for module in _imports(path) if module.startswith("absl.flags") or module == "absl.flag"]
        assert "flags.DEFINE" not in text, path
