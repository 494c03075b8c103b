import json
import subprocess
import sys

import pytest

from tests import conftest

FLAGFILES = sorted((conftest.ROOT / "configs").glob("*.flags"))


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda p: p.name)
def test_flagfile_parses_and_builds_its_config(path):
    code = (
        "import sys, json; from absl import flags; from keras_retinaface.cli import train\n"
        f"rest = flags.FLAGS(['train_main.py', {'--flagfile=' + str(path)!r}])\n"
        "print(json.dumps([rest, train.make_config().to_dict()]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=conftest.ROOT)
    assert result.returncode == 0, result.stderr
    rest, config = json.loads(result.stdout.splitlines()[-1])
    assert rest == ["train_main.py"], "a line without dashes is silently a positional argument"
    assert config["training"]["batch_size"] >= 1


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda p: p.name)
def test_flagfile_names_no_folder_that_a_reader_lacks(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if not line.startswith("--") or name in ("--workdir", "--init"):
            continue
        if "/" not in value and not name.endswith(("_images", "_annotations")):
            continue
        assert (conftest.ROOT / value).exists() or value.startswith("synthetic:"), line


def test_every_field_of_the_config_is_described():
    import dataclasses

    from keras_retinaface import config as config_lib

    fields = [f.name for s in dataclasses.fields(config_lib.Config) for f in dataclasses.fields(s.default)]
    assert sorted(config_lib.describe_fields()) == sorted(fields)


def test_parse_reads_what_fields_hold():
    from keras_retinaface import config as config_lib

    assert config_lib.parse("sizes", "16,32;64,128") == ((16.0, 32.0), (64.0, 128.0))
    assert config_lib.parse("image_size", "320,640") == (320, 640)
    assert config_lib.parse("use_frozen_norms", "true") is True
    with pytest.raises(ValueError, match="`epochs` must be like '80'. Received: 'many'"):
        config_lib.parse("epochs", "many")
