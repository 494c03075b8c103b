"""One experiment, `Config`, its text as JSON, and the presets."""

from __future__ import annotations

import dataclasses
import json
import typing

from absl import logging

from keras_retinaface.config import augmentation, loss, network, training

# No number in the text of a config is beyond; seeds are the largest.
_LARGEST = 1 << 64
# Of a config's text and of a saved model. 1 bore no number, and had a section `detection` that nothing read.
FORMAT = 2
_FORMAT, _FORMER = "format", "detection"
# Without these sections the weights of a model mean nothing; a saved model carries them, and its loss.
_OF_NETWORK = ("anchors", "network")
_OF_TRAINING = ("augmentation", "training")


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment: everything that `config.json` in a workdir holds."""

    anchors: network.Anchors = network.Anchors()
    network: network.Network = network.Network()
    loss: loss.Loss = loss.Loss()
    augmentation: augmentation.Augmentation = augmentation.Augmentation()
    training: training.Training = training.Training()

    def to_dict(self) -> dict:
        """Returns nested plain dicts, ready for JSON."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Returns the text of a `config.json`."""
        return json.dumps({_FORMAT: FORMAT, **self.to_dict()}, indent=2) + "\n"

    def to_model_dict(self) -> dict:
        """Returns what a saved model carries: the format's number, anchors, network and loss; ready for JSON."""
        sections = {name: fields for name, fields in self.to_dict().items() if name not in _OF_TRAINING}
        return {_FORMAT: FORMAT, **sections}

    @classmethod
    def from_dict(cls, values: dict) -> Config:
        """Builds a config from nested dicts, with `format` or without; the inverse of `to_dict`.

        A field left out keeps its default. One that is unknown is left out, with a line in the log, where a network
        does not hang on it: files outlive the names of settings.

        Raises:
            ValueError: if a section or a field of anchors or network is unknown, a value is out of range, or the
                format is that of a newer version.
        """
        return _from_dict(cls, _known(values), "")

    @classmethod
    def from_model_dict(cls, values: dict) -> Config:
        """Builds a config from what a saved model carries, the inverse of `to_model_dict`, and raises as `from_dict`.

        Models of format 1 carried all sections; those that tell how one was trained are left out.
        """
        sections = {name: fields for name, fields in _known(values).items() if name not in _OF_TRAINING}
        return _from_dict(cls, sections, "")

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Builds a config from the text of a `config.json`."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def preset(cls, name: str) -> Config:
        """Returns the config of a named model of the paper or of a shipped preset's network.

        Raises:
            ValueError: if there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"`preset` must be one of {tuple(PRESETS)}. Received: preset={name!r}")
        return PRESETS[name]

    def replace(self, **fields) -> Config:
        """Returns a copy with fields of any section changed by their bare name.

        Args:
            **fields: `epochs=3` changes `training.epochs`; field names are unique over all sections.

        Raises:
            ValueError: if no section has the field or the value is out of range.
        """
        changes: dict[str, dict] = {}
        for name, value in fields.items():
            changes.setdefault(section_of(name), {})[name] = value
        return dataclasses.replace(
            self,
            **{section: dataclasses.replace(getattr(self, section), **values) for section, values in changes.items()},
        )


def section_of(name: str) -> str:
    """Returns the section of `Config` that holds the field `name`.

    Raises:
        ValueError: if none does.
    """
    for section in dataclasses.fields(Config):
        if any(field.name == name for field in dataclasses.fields(section.default)):
            return section.name
    raise ValueError(f"no section of Config has a field {name!r}")


def format_value(value) -> str:
    """Returns a field's value as a flag says it; the inverse of `text.parse`."""
    if not isinstance(value, tuple):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return (";" if value and isinstance(value[0], tuple) else ",").join(format_value(item) for item in value)


def _known(values) -> dict:
    """Returns the sections of a config without the format's number and what this version need not know."""
    if not isinstance(values, dict):
        raise ValueError(f"config: `the whole` must be an object. Received: {values!r:.80}")
    sections = {name: fields for name, fields in values.items() if name not in (_FORMAT, _FORMER)}
    number = values.get(_FORMAT, 1)
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise ValueError(
            f"config: `format` must be 1 to {FORMAT}; a newer version of keras_retinaface writes and reads others. "
            f"Received: format={number!r:.80}"
        )
    left_out = [_FORMER] if _FORMER in values else []
    for section in dataclasses.fields(Config):
        fields = sections.get(section.name)
        if section.name in _OF_NETWORK or not isinstance(fields, dict):
            continue
        known = {field.name for field in dataclasses.fields(section.default)}
        left_out += [f"{section.name}.{name}" for name in sorted(set(fields) - known)]
        sections[section.name] = {name: value for name, value in fields.items() if name in known}
    if left_out:
        # That section stands in every file of format 1.
        log = logging.info if left_out == [_FORMER] else logging.warning
        names = ", ".join(f"{name!r:.80}" for name in left_out[:9])
        log("config: left out %s, which this version does not know", names)
    return sections


def _from_dict(cls, values, where: str):
    if not isinstance(values, dict):
        raise ValueError(f"config: `{where}` must be an object. Received: {values!r:.80}")
    hints = typing.get_type_hints(cls) if not where else {}
    known = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        prefix = f"{where}." if where else ""
        raise ValueError(f"config: unknown field `{prefix}{unknown[0]}`; known: {sorted(known)}")
    return cls(
        **{
            name: _from_dict(hints[name], value, name) if not where else _typed(name, known[name].default, value)
            for name, value in values.items()
        }
    )


def _typed(name: str, default, value):
    """Returns the value of a field if it is of the kind of the default."""
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        # JSON has no tuples, and lists would make the frozen config unhashable.
        kind = default[0] if default else 0.0  # an empty default stands for numbers
        return tuple(_typed(name, kind, item) for item in value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        raise ValueError(f"config: `{name}` must be like {format_value(default)!r}. Received: {value!r:.80}")
    if isinstance(value, (int, float)) and not -_LARGEST <= value <= _LARGEST:  # nor is "not a number"
        raise ValueError(f"config: `{name}` must be a finite number. Received: {value!r:.80}")
    return value


def _octave_sizes(strides: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
    # The paper's table 1: three sizes a level, a third of an octave apart, starting at four strides.
    return tuple(tuple(4 * stride * 2 ** (k / 3) for k in range(3)) for stride in strides)


_PAPER_STRIDES = (4, 8, 16, 32, 64)
_PAPER_ANCHORS = network.Anchors(strides=_PAPER_STRIDES, sizes=_octave_sizes(_PAPER_STRIDES))
_MOBILENET025 = Config()
_MOBILENET025_DENSE = _MOBILENET025.replace(dense=True, dense_channels=64)
_MOBILENET025_FAST = _MOBILENET025.replace(pyramid_channels=32)


def _paper(backbone: str) -> Config:
    return Config(
        anchors=_PAPER_ANCHORS,
        network=network.Network(
            backbone=backbone, pyramid_channels=256, negative_slope=0.0, use_shared_heads=True, use_deformable=True
        ),
    )


PRESETS = {
    "mobilenet025": _MOBILENET025,
    "mobilenet025_public": _MOBILENET025,
    "mobilenet025_dense": _MOBILENET025_DENSE,
    "mobilenet025_fast": _MOBILENET025_FAST,
    "paper_resnet50": _paper("resnet50"),
    "paper_resnet152": _paper("resnet152"),
}
