import re
import shutil
import subprocess

import pytest
import yaml

from keras_retinaface import config as config_lib
from tests import conftest

_FOLDER = conftest.ROOT / "examples" / "scale"


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("*.sbatch")), ids=lambda path: path.name)
def test_slurm_scripts_are_shell_and_name_what_there_is(path):
    for shell in filter(shutil.which, ("sh", "bash")):  # by its first line, and on machines where that is bash
        assert subprocess.run([shell, "-n", path], capture_output=True, text=True).stderr == ""
    text = path.read_text()
    assert text.startswith("#!/bin/sh\n") and re.search(r"^#SBATCH --job-name=", text, re.MULTILINE)
    _check_flags(text)


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_other_scripts_are_shell_and_name_what_there_is(path):
    assert subprocess.run(["sh", "-n", path], capture_output=True, text=True).stderr == ""
    assert path.read_text().startswith("#!/bin/sh\n")
    _check_flags(path.read_text())


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_files_are_yaml_and_name_what_there_is(path):
    (document,) = yaml.safe_load_all(path.read_text())
    assert {"apiVersion", "kind", "metadata", "spec"} <= document.keys()
    _check_flags(path.read_text())


def test_flags_behind_a_line_break_are_seen():
    assert "shard" in _check_flags((_FOLDER / "detect_array.sbatch").read_text())


def _check_flags(text):
    """Makes sure that the flags of our commands are flags that these define; returns them."""
    found = []
    for command, rest in re.findall(
        r"(retinaface \w+|data_pipeline\.serve|train_main\.py)((?:\\\n|\n {14}|[^\n])*)", text
    ):
        name = command.split()[-1].replace("_main.py", "")
        source = conftest.ROOT / ("data_pipeline/serve.py" if "serve" in name else f"keras_retinaface/cli/{name}.py")
        defined = "".join(path.read_text() for path in [source, *conftest.ROOT.glob("keras_retinaface/cli/*_flags.py")])
        for flag in re.findall(r"--(\w+)=", rest):
            is_known = f'"{flag}"' in defined or flag == "flagfile" or flag in config_lib.describe_fields()
            assert is_known, f"{command} has no --{flag}"
            found.append(flag)
    return found
