import h5py
import numpy as np

from keras_retinaface.weights import imports


def test_keras_file_has_the_names_of_the_other(tmp_path):
    path = tmp_path / "retinaface.h5"
    state = {f"{layer}.kernel": np.ones((1, 1, 2, 3), np.float32) for layer in ("ssh_c3_lateral", "stage4_unit3_conv3")}
    state |= {f"bn_data.{leaf}": np.full(3, 2.0, np.float32) for leaf in ("beta", "gamma", "moving_mean")}
    state |= {"bn_data.moving_variance": np.full(3, 4.0, np.float32), "conv0.kernel": np.ones((7, 7, 3, 4), np.float32)}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"conv0", b"bn_data"])
        for name, array in state.items():
            layer, leaf = name.split(".")
            file.create_dataset(f"{layer}/{layer}/{leaf}:0", data=array)
    found = imports.read(path)
    assert found.project == "serengil" and found.config.anchors.sizes[0] == (32.0, 16.0)
    # 2 (x - 2) / sqrt(4) + 2 = x: a mean of 0, a slope of 1.
    np.testing.assert_allclose(found.config.network.image_mean, 0, atol=1e-4)
    np.testing.assert_allclose(found.values["conv1/kernel"], 1, atol=1e-4)
    assert set(found.values) == {"conv1/kernel", "lateral_P5/kernel", "C5_2_conv3/kernel"}
