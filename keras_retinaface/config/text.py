"""Fields of a config as text: what flags say, and what their help says."""

from __future__ import annotations

import dataclasses
import inspect
import re

from keras_retinaface.config import experiment


def parse(name: str, text: str):
    """Reads the value of a field from a flag's text, by the type of the field's default.

    Args:
        name: name of a field of any section.
        text: a number, a word, `true` or `false`; numbers of a tuple are separated by commas, tuples of a tuple by
            semicolons.

    Raises:
        ValueError: if the text does not fit the field; names it.
    """
    default = getattr(getattr(experiment.Config(), experiment.section_of(name)), name)
    try:
        return _parse(default, text)
    except ValueError as error:
        raise ValueError(f"`{name}` must be like {experiment.format_value(default)!r}. Received: {text!r}") from error


def describe_fields() -> dict[str, str]:
    """Returns what the docstrings say of every field, by name; the scripts' help."""
    described = {}
    for section in dataclasses.fields(experiment.Config):
        text = inspect.getdoc(type(section.default)).split("Attributes:\n", 1)[1]
        for name, words in re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE):
            described[name] = re.sub(r"\s+", " ", words)
    return described


def _parse(default, text: str):
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if not isinstance(default, tuple):
        return type(default)(text)
    kind = default[0] if default else 0.0  # an empty default stands for numbers
    if not default and not text.strip():
        return ()
    separator = ";" if isinstance(kind, tuple) else ","
    return tuple(_parse(kind, part.strip()) for part in text.split(separator))
