import keras
import numpy as np
import pytest

from keras_retinaface.geometry import anchor
from keras_retinaface.layers import head


def _model(*, use_shared_heads=False, has_dense=False, levels=("P3", "P4")):
    maps = {name: keras.Input((None, None, 4), name=name) for name in levels}
    outputs = head.build(maps, 2, use_shared_heads=use_shared_heads, dense_levels=maps if has_dense else None)
    return keras.Model(maps, outputs)


def test_rows_stand_in_the_order_of_anchors():
    """A map whose values are places, and a head that copies them, give each anchor the place that it stands on."""
    model = _model()
    for name in ("P3", "P4"):
        kernel = np.zeros((1, 1, 4, 8), np.float32)
        kernel[0, 0, 0, 0::4] = kernel[0, 0, 1, 1::4] = 1.0  # x and y; of both sizes
        kernel[0, 0, 2, 2::4] = [1.0, 2.0]
        model.get_layer(f"box_{name}").set_weights([kernel, np.zeros(8, np.float32)])
    maps = {}
    for name, stride in (("P3", 8), ("P4", 16)):
        rows, columns = -(-40 // stride), -(-24 // stride)
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        places = [(x + 0.5) * stride, (y + 0.5) * stride, np.full((rows, columns), 2.0 * stride), np.zeros_like(x)]
        maps[name] = np.stack(places, -1)[None].astype(np.float32)
    found = model(maps)["box_deltas"].numpy()[0]
    anchors = anchor.generate((40, 24), (8, 16), ((16.0, 32.0), (32.0, 64.0))).numpy()
    assert found.shape == anchors.shape
    np.testing.assert_allclose(found[:, :2], (anchors[:, :2] + anchors[:, 2:]) / 2)
    np.testing.assert_allclose(found[:, 2], anchors[:, 2] - anchors[:, 0])


@pytest.mark.parametrize("has_dense", [False, True])
def test_shared_heads_are_one_convolution_an_output(has_dense):
    kinds = 3 + has_dense
    for use_shared_heads, count in ((True, kinds), (False, 2 * kinds)):
        model = _model(use_shared_heads=use_shared_heads, has_dense=has_dense)
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == count
        shapes = {name: tuple(values.shape)[2:] for name, values in model.output.items()}
        assert shapes == {**head.SHAPES, **({"mesh_code": head.DENSE_SHAPE} if has_dense else {})}


def test_a_dense_head_starts_at_the_mean_face():
    model = _model(has_dense=True, levels=("P3",))
    image = np.random.default_rng(0).normal(size=(1, 3, 2, 4)).astype(np.float32)
    outputs = model({"P3": image})
    assert outputs["mesh_code"].shape == (1, 12, 144) and not np.any(outputs["mesh_code"])
    assert np.all(np.any(outputs["scores"], axis=-1))


def test_outputs_are_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = _model()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    outputs = model({name: np.zeros((1, 2, 2, 4), np.float32) for name in ("P3", "P4")})
    assert {values.dtype.name for values in outputs.values()} == {"float32"}
