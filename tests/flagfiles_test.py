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
