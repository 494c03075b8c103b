"""The requirement files and pyproject.toml must not drift apart."""

import re

import pytest
from packaging import requirements

from tests import conftest


def _collect(lines, python):
    """Returns what lines of requirements ask for under a Python: the specifiers of each package."""
    wanted = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        requirement = requirements.Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            wanted.setdefault(requirement.name, set()).update(map(str, requirement.specifier))
    return wanted


def _read(name, python):
    return _collect((conftest.ROOT / name).read_text(encoding="utf-8").splitlines(), python)


def _project(*names):
    """Returns the lines of extras of pyproject.toml; of the core under the name `dependencies`."""
    text = (conftest.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("\ndependencies = [") :]
    found = []
    for name in names:
        # Python 3.9 has no reader of TOML.
        inside = re.search(rf"^{name} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)[1]
        found += [line for line in re.findall(r'"([^"]+)"', inside) if not line.startswith("keras-retinaface[")]
    return found


def test_current_stack_is_what_python_3_12_gets():
    assert _read("requirements-current.txt", "3.11") == _read("requirements.txt", "3.12")


def test_base_stack_is_pinned_where_it_must_be():
    base = _read("requirements.txt", "3.11")
    assert base["tensorflow"] == {"==2.15.1"} and base["tensorflow-addons"] == {"==0.23.0"}
    assert base["tensorflow-graphics"] == {"==2021.12.3"} and "<2" in base["numpy"]
    assert "opencv-python" not in base and "opencv-python-headless" in base


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_a_checkout_gets_what_core_and_extras_ask_for(python):
    wanted = _collect(_project("dependencies", "tensorflow", "tflite", "mesh", "evaluate", "onnx"), python)
    checkout = _read("requirements.txt", python)
    # An upper bound of the core that an extra tightens stands once in the file.
    wanted["opencv-python-headless"] -= {"<5"} if "<4.12" in wanted["opencv-python-headless"] else set()
    assert wanted == checkout
    assert _collect(_project("dev"), python) == _read("requirements-dev.txt", python)
    for extra in ("heic", "video", "parquet", "bulk"):  # which tests alone need of a checkout
        assert _collect(_project(extra), python).items() <= _read("requirements-dev.txt", python).items()


def test_the_core_is_light():
    names = {requirements.Requirement(line).name for line in _project("dependencies")}
    assert not names & {"tensorflow", "keras", "scipy", "matplotlib", "onnx", "torch", "ai-edge-litert", "pyarrow"}


def test_every_extra_that_is_named_is_there():
    from keras_retinaface import extras

    text = (conftest.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in set(extras._EXTRAS.values()):
        assert re.search(rf"^{extra} = \[", text, re.MULTILINE), extra
