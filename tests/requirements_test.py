"""The two requirement files must not drift apart."""

from packaging import requirements

from tests import conftest


def _read(name, python):
    lines = (conftest.ROOT / name).read_text().splitlines()
    wanted = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        requirement = requirements.Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            wanted[requirement.name] = str(requirement.specifier)
    return wanted


def test_current_stack_is_what_python_3_12_gets():
    assert _read("requirements-current.txt", "3.11") == _read("requirements.txt", "3.12")


def test_base_stack_is_pinned_where_it_must_be():
    base = _read("requirements.txt", "3.11")
    assert base["tensorflow"] == "==2.15.1" and base["tensorflow-addons"] == "==0.23.0"
    assert base["tensorflow-graphics"] == "==2021.12.3" and "<2" in base["numpy"].split(",")
    assert "opencv-python" not in base and "opencv-python-headless" in base
