"""insightface's network as MXNet and ONNX hold it is the one of serengil's `.pth`. No TensorFlow."""

import h5py
import numpy as np
import pytest

from keras_retinaface.weights import imports, imports_insightface, imports_onnx_insightface

onnx = pytest.importorskip("onnx")

_NORMS = ("bn_data", "bn0", "stage1.unit1.bn1", "stage1.unit1.bn2", "stage4.unit3.bn1", "ssh_c3_lateral_bn")
# (what stands in front, the module, its norm's place behind it, how the older exporter calls it)
_CONVOLUTIONS = {
    "conv0": ("bn0", "/conv0/Conv"),
    "stage1.unit1.conv1": ("stage1.unit1.bn2", "/unit1/conv1/Conv"),
    "stage4.unit3.conv3": ("", "/unit3/conv3_3/Conv"),
    "ssh_c3_lateral": ("ssh_c3_lateral_bn", "/ssh_c3_lateral/Conv"),
    "face_rpn_stride8.cls_score": ("", "/face_rpn_stride8/cls_score/Conv"),
}
_HAS_BIAS = ("ssh_c3_lateral", "face_rpn_stride8.cls_score")


@pytest.fixture
def state():
    random = np.random.default_rng(0)
    found = {}
    for norm in _NORMS:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{leaf}"] = random.uniform(0.5, 1.5, 3).astype(np.float32)
    found["bn_data.weight"][:] = 1
    for name in _CONVOLUTIONS:
        filters = 4 if name.startswith("face") else 3
        found[f"{name}.weight"] = random.normal(size=(filters, 3, 1, 1)).astype(np.float32)
        if name in _HAS_BIAS:
            found[f"{name}.bias"] = random.normal(size=filters).astype(np.float32)
    return found


def _computed(values):
    """Returns what layers compute, whatever their norms are written as."""
    found = {}
    for key, array in values.items():
        layer, leaf = key.rsplit("/", 1)
        if leaf in ("kernel", "gamma"):
            norm = layer if leaf == "gamma" else f"{layer}_bn"
            kernel = array if leaf == "kernel" else np.ones(3)
            if f"{norm}/gamma" in values:
                factor = values[f"{norm}/gamma"] / np.sqrt(values[f"{norm}/moving_variance"] + 1e-5)
                found[f"{norm} shift"] = values[f"{norm}/beta"] - values[f"{norm}/moving_mean"] * factor
                kernel = kernel * factor if leaf == "kernel" else kernel
            found[key] = kernel if leaf == "kernel" else found[f"{norm} shift"]
        elif leaf == "bias":
            found[key] = array
    return found


def _check(found, state):
    config, wanted = imports_insightface.translate(state, "x")
    assert found[0] == config
    found, wanted = _computed(found[1]), _computed(wanted)
    assert set(found) == set(wanted) and len(wanted) > 12
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_mxnet_calls_the_same_arrays_otherwise(state):
    norm_leaves = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    arrays = {}
    for name, array in state.items():
        prefix, _, leaf = name.rpartition(".")
        leaf = norm_leaves[leaf] if f"{prefix}.running_var" in state else leaf
        prefix = "face_rpn_cls_score_stride8" if prefix.startswith("face") else prefix.replace(".", "_")
        arrays[f"{'aux' if leaf.startswith('moving') else 'arg'}:{prefix}_{leaf}"] = array
    assert {"arg:bn_data_gamma", "aux:stage1_unit1_bn1_moving_var", "arg:ssh_c3_lateral_bn_beta"} <= set(arrays)
    arrays["arg:bn_data_gamma"] = np.full(3, 7, np.float32)  # which MXNet does not look at
    _check(imports_insightface.translate(imports_insightface.from_mxnet(arrays), "x"), state)


def _graph(state, is_old):
    """Builds what an exporter of PyTorch makes: norms behind convolutions are folded into them."""
    constants, nodes, folded = {}, [], {norm for norm, _ in _CONVOLUTIONS.values() if norm}

    def norm_node(norm):
        leaves = [f"{norm}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
        constants.update({leaf: state[leaf] for leaf in leaves})
        nodes.append(onnx.helper.make_node("BatchNormalization", [f"before {norm}", *leaves], [f"behind {norm}"]))

    order = ["bn_data", "conv0", "stage1.unit1.bn1", "stage1.unit1.conv1", "stage4.unit3.bn1", *list(_CONVOLUTIONS)[2:]]
    for name in order:
        if name in _NORMS:
            assert name not in folded
            norm_node(name)
            continue
        norm, node_name = _CONVOLUTIONS[name]
        kernel, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        if norm:
            factor = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + 2e-5)
            bias = state[f"{norm}.bias"] + ((0 if bias is None else bias) - state[f"{norm}.running_mean"]) * factor
            kernel = kernel * factor[:, None, None, None]
        is_renamed = is_old and norm
        names = [f"onnx::Conv_{len(constants)}" if is_renamed else f"{name}.weight"]
        constants[names[0]] = kernel.astype(np.float32)
        if bias is not None:
            names.append(f"onnx::Conv_{len(constants)}" if is_renamed else f"{name}.weight_bias")
            constants[names[1]] = bias.astype(np.float32)
        nodes.append(onnx.helper.make_node("Conv", ["x", *names], [f"behind {name}"], name=node_name if is_old else ""))
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], tensors))


@pytest.mark.parametrize("is_old", [True, False])
def test_both_exporters_of_pytorch(tmp_path, state, is_old):
    path = tmp_path / "retinaface.onnx"
    path.write_bytes(_graph(state, is_old).SerializeToString())
    found = imports.read(path)
    assert found.project == "serengil"
    _check((found.config, found.values), state)
    with pytest.raises(ValueError, match="has the layout of serengil. Received: project='yakhyo'"):
        imports.read(path, "yakhyo")


def test_what_is_no_constant_is_named(state):
    graph = _graph(state, True)
    del graph.graph.initializer[[item.name for item in graph.graph.initializer].index("stage4.unit3.conv3.weight")]
    with pytest.raises(ValueError, match="^x: the weights of /unit3/conv3_3/Conv are no constant"):
        imports_onnx_insightface.state(graph, "x")


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
