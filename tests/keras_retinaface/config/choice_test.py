import dataclasses
import re

import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.config import choice

_CHOICES = {name: words for name, words in vars(choice).items() if name.isupper() and name != "PADDING"}


def test_check_names_the_field_and_what_it_may_be():
    choice.check(config_lib.Training(), optimizer=("sgd",), schedule=("steps", "cosine"))
    message = "`schedule` must be one of ('cosine',). Received: schedule='steps'"
    with pytest.raises(ValueError, match=re.escape(message)):
        choice.check(config_lib.Training(), optimizer=("sgd",), schedule=("cosine",))


@pytest.mark.parametrize("name", _CHOICES)
def test_every_word_is_taken_by_one_field_alone(name):
    """A list that no field checks, or a word that its field refuses, would be of no use."""
    words = _CHOICES[name]
    assert len(set(words)) == len(words) > 1 and getattr(config_lib, name) == words
    takers = []
    for section in dataclasses.fields(config_lib.Config):
        for field in dataclasses.fields(section.default):
            if field.default in words and isinstance(field.default, str):
                takers.append(field.name)
                for word in words:
                    dataclasses.replace(section.default, **{field.name: word})
                with pytest.raises(ValueError, match=f"`{field.name}` must be one of"):
                    dataclasses.replace(section.default, **{field.name: "other"})
    assert len(takers) == 1, takers
