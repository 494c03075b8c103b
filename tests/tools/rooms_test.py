import ast

import pytest

from tools import rooms

_TEXTS = {
    "keras_retinaface": "",
    "keras_retinaface.atomic": "import os\n",
    "keras_retinaface.media": "",
    "keras_retinaface.media.film": "import keras_retinaface.atomic\nfrom keras_retinaface.media import film_help\n",
    "keras_retinaface.media.film_help": 'def a():\n    """Said."""\n    b = 1\n\n    return b\n',
    "keras_retinaface.cli": "",
    "keras_retinaface.cli.detect": "import data_pipeline\n\n\ndef a():\n    from keras_retinaface.media import film\n",
    "data_pipeline": "from keras_retinaface.media.film import show\n",
}


def test_a_house_is_counted_by_its_rooms():
    house = rooms.House(_TEXTS)
    assert house.files == {"(no room)": 2, "media": 3, "cli": 2, "data_pipeline": 1}
    assert house.lines == {"(no room)": 1, "media": 7, "cli": 5, "data_pipeline": 1}
    arrows = {room: targets for room, targets in house.arrows.items() if targets}
    assert arrows == {"media": {"atomic"}, "cli": {"data_pipeline", "media"}, "data_pipeline": {"media"}}
    assert house.longest_file == ("keras_retinaface.media.film_help", 5)
    assert house.longest_body == ("keras_retinaface.media.film_help.a", 3)


def test_an_import_inside_functions_alone_is_lazy():
    text = "import a.b\n\n\ndef f():\n    import a.b, c\n    from d import e, f\n\n\nif True:\n    from d import e\n"
    assert rooms.imports(ast.parse(text), {"a", "a.b", "c", "d.e", "d"}) == {
        "a.b": False,
        "c": True,
        "d.e": False,
        "d": True,
    }


def test_rows_stand_beside_each_other():
    before = rooms.House({"keras_retinaface.media": "", "keras_retinaface.media.film": "def a():\n    pass\n"})
    lines = rooms.table({"before": before, "now": rooms.House(_TEXTS)}).splitlines()
    assert lines[0] == "| room | before | now | imports |"
    assert "| cli | - | 2 / 5 | data_pipeline, media |" in lines
    assert "| media | 2 / 2 | 3 / 7 | atomic |" in lines
    assert "| together | 2 / 2 | 8 / 14 | |" in lines


def test_a_commit_that_is_none_is_told():
    with pytest.raises(ValueError, match="`commits` must be commits of this repository. Received: 'no such commit'"):
        rooms.sources_at("no such commit")


def test_names_of_modules_are_those_of_their_paths():
    assert rooms.module_name("keras_retinaface/media/__init__.py") == "keras_retinaface.media"
    assert rooms.module_name("data_pipeline/serve.py") == "data_pipeline.serve"
    assert "keras_retinaface.media.video" in rooms.sources()
