"""The names that `keras_retinaface` itself gives, lazily, whatever room they stand in."""

import importlib
import importlib.util
import re

import pytest

import keras_retinaface
from tests import conftest

_DOCUMENTS = [conftest.ROOT / "README.md", *(conftest.ROOT / "docs").glob("*.md"), *conftest.ROOT.glob("notebooks/*")]


def _named():
    """Returns the names that the documents import from the library, and what they take out of its modules."""
    names, attributes = set(), set()
    for path in _DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for found in re.findall(r"from keras_retinaface import ([\w, ]+)", text):
            names |= {name.split()[0] for name in found.split(",")}
        attributes |= set(re.findall(r"`keras_retinaface\.(\w+)\.(\w+)\(", text))
    return names, attributes


def test_what_documents_import_is_there():
    names, attributes = _named()
    assert {"Detector", "RetinaFace", "unfolding"} <= names and ("tflite_file", "read_metadata") in attributes
    for name in names:  # of the door, or a room of that name
        assert hasattr(keras_retinaface, name) or importlib.util.find_spec(f"keras_retinaface.{name}"), name
    for module, attribute in attributes:
        assert callable(getattr(getattr(keras_retinaface, module), attribute)), f"{module}.{attribute}"


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("face", "Face"),
        ("image_file", "read"),
        ("drawing", "faces"),
        ("tflite_file", "read_metadata"),
        ("unfolding", "unfold_norms"),
    ],
)
def test_modules_that_moved_keep_their_old_names(name, attribute):
    module = getattr(keras_retinaface, name)
    assert module is importlib.import_module(module.__name__) and hasattr(module, attribute)
    assert name in dir(keras_retinaface) and name in keras_retinaface.__all__


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'keras_retinaface' has no attribute 'Retina'"):
        keras_retinaface.Retina  # noqa: B018
    assert not hasattr(keras_retinaface, "__wrapped__")
