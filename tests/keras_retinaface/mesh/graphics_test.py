import pytest

from keras_retinaface.mesh import graphics


def test_what_is_missing_is_told_with_the_command_that_installs_it():
    command = "pip install --no-deps tensorflow-graphics==2021.12.3"
    with pytest.raises(ValueError, match=f"the dense loss needs tensorflow-graphics: {command}"):
        with graphics.needed_for("the dense loss"):
            raise ModuleNotFoundError("No module named 'tensorflow_graphics'", name="tensorflow_graphics.geometry")


def test_another_missing_module_is_no_matter_of_it():
    with pytest.raises(ModuleNotFoundError, match="trimesh"):
        with graphics.needed_for("meshes"):
            raise ModuleNotFoundError("No module named 'trimesh'", name="trimesh")
    with graphics.needed_for("meshes"):
        pass
